package io.cosmosflink.core;

import java.util.function.ToIntFunction;

/** The constants of an enum by their numbers on the wire, which never change, while constants may be added and moved. */
final class Numbers<E extends Enum<E>> {
    private final Object[] byNumber;

    Numbers(E[] constants, ToIntFunction<E> number) {
        int largest = 0;
        for (E constant : constants) {
            largest = Math.max(largest, number.applyAsInt(constant));
        }
        byNumber = new Object[largest + 1];
        for (E constant : constants) {
            int at = number.applyAsInt(constant);
            if (byNumber[at] != null) {
                throw new IllegalStateException(constant + " has the number of " + byNumber[at]);
            }
            byNumber[at] = constant;
        }
    }

    /** The constant of a number; null when this jar knows none. */
    @SuppressWarnings("unchecked")
    E get(int number) {
        return number >= 0 && number < byNumber.length ? (E) byNumber[number] : null;
    }

    /**
     * The constant of a number.
     *
     * @param what it is, such as {@code operation}
     * @throws CosmosException of kind STATE when this jar knows none
     */
    E require(int number, String what) {
        E constant = get(number);
        if (constant == null) {
            throw FrameReader.state(what + " " + number + " is not known to this jar");
        }
        return constant;
    }
}
