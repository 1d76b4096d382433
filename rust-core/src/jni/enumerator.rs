//! The natives of a split enumerator.

use ::jni::objects::JByteArray;
use ::jni::sys::{jint, jlong};

use super::{config, native, read, wait, write, wrong, Handle, NativeResult, HANDLES};
use crate::config::Role;
use crate::enumerator::SplitEnumerator;
use crate::error::Result;

fn with_enumerator<T>(id: jlong, act: impl FnOnce(&SplitEnumerator) -> Result<T>) -> NativeResult<T> {
    match &*HANDLES.get(id)? {
        Handle::Enumerator(enumerator) => Ok(act(enumerator)?),
        _ => Err(wrong("an enumerator").into()),
    }
}

native!(
    Java_io_cosmosflink_core_Natives_openEnumerator,
    |env, options: JByteArray<'local>, state: JByteArray<'local>, first_start: jint| -> jlong {
        let config = config(env, &options, Role::Source)?;
        let enumerator = SplitEnumerator::new(config, &read(env, &state)?, first_start != 0)?;
        Ok(HANDLES.insert(Handle::Enumerator(Box::new(enumerator))))
    }
);

native!(
    Java_io_cosmosflink_core_Natives_coordinate,
    |env, handle: jlong, event: JByteArray<'local>| -> JByteArray<'local> {
        let event = read(env, &event)?;
        let actions = with_enumerator(handle, |enumerator| enumerator.coordinate(&event))?;
        write(env, &actions)
    }
);

native!(
    Java_io_cosmosflink_core_Natives_discover,
    |env, handle: jlong, timeout_millis: jlong| -> JByteArray<'local> {
        let frame = with_enumerator(handle, |enumerator| enumerator.discover(wait(timeout_millis)))?;
        write(env, &frame.unwrap_or_default())
    }
);
