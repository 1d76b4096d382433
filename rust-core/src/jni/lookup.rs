//! The natives of a lookup function.

use std::sync::Arc;
use std::time::Duration;

use ::jni::objects::JByteArray;
use ::jni::sys::jlong;
use tokio::time::Instant;

use super::{config, native, read, wait, write, wrong, Handle, HANDLES, MAX_WAIT};
use crate::config::Role;
use crate::error::Result;
use crate::lookup::{encode_answers, Lookup, Wanted};
use crate::opening::Opening;
use crate::rows::Plan;

/// The live look-ups of a handle, waited for up to `timeout` while it is being opened; `None` when it is not open by then.
fn lookup(id: jlong, timeout: Duration) -> Result<Option<Arc<Lookup>>> {
    match &*HANDLES.get(id)? {
        Handle::Lookup(lookup) => lookup.get(timeout),
        _ => Err(wrong("look-ups")),
    }
}

native!(
    Java_io_cosmosflink_core_Natives_openLookup,
    |env, options: JByteArray<'local>, plan: JByteArray<'local>, wanted: JByteArray<'local>| -> jlong {
        let plan = Plan::decode(&read(env, &plan)?)?;
        let wanted = Wanted::decode(&read(env, &wanted)?)?;
        let config = config(env, &options, Role::Lookup)?;
        Lookup::check(&config)?;
        let opening = async move { Lookup::connect(config, &plan, &wanted).await };
        Ok(HANDLES.insert(Handle::Lookup(Opening::start(opening)?)))
    }
);

native!(Java_io_cosmosflink_core_Natives_lookUp, |env,
                                                  handle: jlong,
                                                  keys: JByteArray<
    'local,
>|
 -> () {
    let keys = read(env, &keys)?;
    match &*HANDLES.get(handle)? {
        Handle::Lookup(lookup) => lookup.ready(MAX_WAIT)?.look_up(&keys)?,
        _ => return Err(wrong("look-ups").into()),
    }
    Ok(())
});

native!(
    Java_io_cosmosflink_core_Natives_pollAnswers,
    |env, handle: jlong, timeout_millis: jlong| -> JByteArray<'local> {
        let deadline = Instant::now() + wait(timeout_millis);
        let frame = match lookup(handle, wait(timeout_millis))? {
            Some(lookup) => lookup.poll(deadline.saturating_duration_since(Instant::now()))?,
            None => encode_answers(&[])?,
        };
        write(env, &frame)
    }
);
