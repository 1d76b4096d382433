//! The natives of a sink.

use std::sync::Arc;
use std::time::Duration;

use ::jni::objects::JByteArray;
use ::jni::sys::{jint, jlong};
use tokio::time::Instant;

use super::{config, native, peers, read, wait, write, wrong, Handle, HANDLES, MAX_WAIT};
use crate::config::Role;
use crate::error::{CoreError, Kind, Result};
use crate::frame;
use crate::opening::Opening;
use crate::rows::DocumentPlan;
use crate::sink::{self as sinks, Sink};

/// The live sink of a handle, waited for up to `timeout` while it is being opened; `None` when it is not open by then.
fn sink(id: jlong, timeout: Duration) -> Result<Option<Arc<Sink>>> {
    match &*HANDLES.get(id)? {
        Handle::Sink(sink) => sink.get(timeout),
        _ => Err(wrong("a sink")),
    }
}

native!(
    Java_io_cosmosflink_core_Natives_openSink,
    |env, options: JByteArray<'local>, count: jint, group: JByteArray<'local>| -> jlong {
        let peers = peers(env, count, &group)?;
        let opening = Sink::connect_among(config(env, &options, Role::Sink)?, peers);
        Ok(HANDLES.insert(Handle::Sink(Opening::start(opening)?)))
    }
);

native!(
    Java_io_cosmosflink_core_Natives_openRowSink,
    |env,
     options: JByteArray<'local>,
     count: jint,
     group: JByteArray<'local>,
     plan: JByteArray<'local>|
     -> jlong {
        let plan = DocumentPlan::decode(&read(env, &plan)?)?;
        let peers = peers(env, count, &group)?;
        let config = config(env, &options, Role::Sink)?;
        let opening = async move { Sink::connect_rows(config, peers, &plan).await };
        Ok(HANDLES.insert(Handle::Sink(Opening::start(opening)?)))
    }
);

native!(
    Java_io_cosmosflink_core_Natives_encodeRows,
    |env, plan: JByteArray<'local>, operations: JByteArray<'local>| -> JByteArray<'local> {
        let plan = DocumentPlan::decode(&read(env, &plan)?)?;
        let made = sinks::encode_rows(&plan, &read(env, &operations)?)?;
        write(env, &made)
    }
);

native!(
    Java_io_cosmosflink_core_Natives_submit,
    |env, handle: jlong, submission: jlong, operations: JByteArray<'local>, length: jint| -> jlong {
        if operations.is_null() {
            return Err(CoreError::new(Kind::BadRequest, "the array of operations is null").into());
        }
        let room = operations.len(env)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|l| *l <= room)
            .ok_or_else(|| {
                CoreError::new(
                    Kind::BadRequest,
                    format!("length {length} of operations in an array of {room} bytes"),
                )
            })?;
        let mut bytes: Vec<u8> = Vec::with_capacity(length);
        // Not through a slice, which would have to be zeroed first: this is every document's way in.
        // SAFETY: `operations` is a live reference to a byte array with at least `length` elements, as checked above, so that the call
        // throws nothing and fills exactly the first `length` bytes of the vector's capacity.
        unsafe {
            let raw = env.get_raw();
            let region = (**raw).v1_1.GetByteArrayRegion;
            region(
                raw,
                operations.as_raw(),
                0,
                length as jint,
                bytes.as_mut_ptr().cast(),
            );
            bytes.set_len(length);
        }
        let sink = match &*HANDLES.get(handle)? {
            Handle::Sink(sink) => sink.ready(MAX_WAIT)?,
            _ => return Err(wrong("a sink").into()),
        };
        Ok(sink.submit(submission as u64, bytes)? as jlong)
    }
);

native!(
    Java_io_cosmosflink_core_Natives_pollCompletions,
    |env, handle: jlong, timeout_millis: jlong| -> JByteArray<'local> {
        let deadline = Instant::now() + wait(timeout_millis);
        let frame = match sink(handle, wait(timeout_millis))? {
            Some(sink) => {
                let completions = sink.poll(deadline.saturating_duration_since(Instant::now()))?;
                // Behind the poll: what it woke up for is in there.
                sinks::encode_completions(sink.room(), &completions)
            }
            None => sinks::encode_completions(0, &[]),
        };
        write(env, &frame)
    }
);

native!(Java_io_cosmosflink_core_Natives_heldUp, |env,
                                                  handle: jlong|
 -> JByteArray<
    'local,
> {
    let held = match sink(handle, Duration::ZERO)? {
        Some(sink) => sink.held_up(),
        None => Vec::new(),
    };
    write(env, &frame::encode_strings(&held))
});
