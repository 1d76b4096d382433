//! Live state that Java names by number: ids with a generation, so that a closed or invented id is an error and never a
//! dangling pointer.

use std::sync::{Arc, Mutex};

use crate::error::{CoreError, Result};

struct Slot<T> {
    generation: u32,
    value: Option<Arc<T>>,
}

/// A table of handles. An id is `generation << 32 | index + 1`, never 0, never negative.
pub struct Handles<T> {
    slots: Mutex<Vec<Slot<T>>>,
}

impl<T> Handles<T> {
    /// An empty table.
    pub const fn new() -> Self {
        Handles {
            slots: Mutex::new(Vec::new()),
        }
    }

    /// Takes a value in and returns its id.
    pub fn insert(&self, value: T) -> i64 {
        let value = Some(Arc::new(value));
        let mut slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        let index = match slots.iter().position(|s| s.value.is_none()) {
            Some(index) => {
                slots[index].value = value;
                index
            }
            None => {
                slots.push(Slot { generation: 1, value });
                slots.len() - 1
            }
        };
        (i64::from(slots[index].generation) << 32) | (index as i64 + 1)
    }

    fn locate(slots: &[Slot<T>], id: i64) -> Option<usize> {
        let index = usize::try_from((id & 0xffff_ffff) - 1).ok()?;
        let slot = slots.get(index)?;
        (slot.value.is_some() && i64::from(slot.generation) == id >> 32).then_some(index)
    }

    /// # Errors
    /// [`crate::error::Kind::Closed`] when the id is closed or was never given.
    pub fn get(&self, id: i64) -> Result<Arc<T>> {
        let slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        Self::locate(&slots, id)
            .and_then(|i| slots[i].value.clone())
            .ok_or_else(CoreError::closed)
    }

    /// Takes the value out; `None` when it is out already. The id is never valid again (for 2^31 reuses of its slot).
    pub fn remove(&self, id: i64) -> Option<Arc<T>> {
        let mut slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        let index = Self::locate(&slots, id)?;
        let slot = &mut slots[index];
        slot.generation = if slot.generation == i32::MAX as u32 {
            1
        } else {
            slot.generation + 1
        };
        slot.value.take()
    }
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_closed_id_stays_closed_when_its_slot_is_used_again() {
        let handles = Handles::new();
        let first = handles.insert("first");
        assert!(first > 0);
        assert_eq!(*handles.get(first).unwrap(), "first");
        assert!(handles.remove(first).is_some());
        let second = handles.insert("second");
        assert_ne!(first, second);
        assert_eq!(handles.get(first).unwrap_err().kind, Kind::Closed);
        assert!(handles.remove(first).is_none());
        assert_eq!(*handles.get(second).unwrap(), "second");
    }

    #[test]
    fn invented_ids_are_refused() {
        let handles: Handles<()> = Handles::new();
        handles.insert(());
        for id in [0, -1, 1, i64::MIN, i64::MAX, 1 << 32, (1 << 32) | 2] {
            assert!(handles.get(id).is_err(), "{id}");
        }
    }
}
