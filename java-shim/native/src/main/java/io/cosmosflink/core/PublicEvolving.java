package io.cosmosflink.core;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * A type that users of the connectors meet: it may change from one minor version to the next. As the annotation of Flink, which this jar knows
 * nothing of.
 */
@Internal
@Documented
@Retention(RetentionPolicy.CLASS)
@Target(ElementType.TYPE)
public @interface PublicEvolving {}
