//! The natives of a source.

use std::sync::Arc;
use std::time::Duration;

use ::jni::objects::JByteArray;
use ::jni::sys::{jint, jlong};
use tokio::time::Instant;

use super::{config, native, peers, read, wait, write, wrong, Handle, NativeResult, HANDLES, MAX_WAIT};
use crate::config::Role;
use crate::error::{CoreError, Kind, Result};
use crate::frame;
use crate::leases::tokens_file;
use crate::opening::Opening;
use crate::page::decode_documents;
use crate::rows::{Decoder, Plan};
use crate::source::Source;
use crate::split;
use crate::sql;

/// The live source of a handle, waited for up to `timeout` while it is being opened; `None` when it is not open by then.
fn source(id: jlong, timeout: Duration) -> Result<Option<Arc<Source>>> {
    match &*HANDLES.get(id)? {
        Handle::Source(source) => source.get(timeout),
        _ => Err(wrong("a source")),
    }
}

fn with_source<T>(id: jlong, act: impl FnOnce(&Source) -> Result<T>) -> NativeResult<T> {
    match &*HANDLES.get(id)? {
        Handle::Source(source) => Ok(act(&*source.ready(MAX_WAIT)?)?),
        _ => Err(wrong("a source").into()),
    }
}

native!(
    Java_io_cosmosflink_core_Natives_openSource,
    |env, options: JByteArray<'local>, count: jint, group: JByteArray<'local>| -> jlong {
        let peers = peers(env, count, &group)?;
        let opening = Source::connect_among(config(env, &options, Role::Source)?, peers);
        Ok(HANDLES.insert(Handle::Source(Opening::start(opening)?)))
    }
);

native!(
    Java_io_cosmosflink_core_Natives_openRowSource,
    |env,
     options: JByteArray<'local>,
     count: jint,
     group: JByteArray<'local>,
     plan: JByteArray<'local>|
     -> jlong {
        let plan = Plan::decode(&read(env, &plan)?)?;
        let peers = peers(env, count, &group)?;
        let config = config(env, &options, Role::Source)?;
        Source::check_rows(&config)?;
        let opening = async move { Source::connect_rows(config, peers, &plan).await };
        Ok(HANDLES.insert(Handle::Source(Opening::start(opening)?)))
    }
);

native!(
    Java_io_cosmosflink_core_Natives_decodeRows,
    |env, plan: JByteArray<'local>, documents: JByteArray<'local>| -> JByteArray<'local> {
        let mut decoder = Decoder::new(&Plan::decode(&read(env, &plan)?)?, []);
        let page = decode_documents(read(env, &documents)?, &mut decoder)?;
        write(env, &page.frame.to_vec())
    }
);

native!(
    Java_io_cosmosflink_core_Natives_documentQuery,
    |env, plan: JByteArray<'local>| -> JByteArray<'local> {
        let query = sql::documents(&Plan::decode(&read(env, &plan)?)?);
        let parameters = query.parameters_json();
        write(env, &frame::encode_strings(&[query.text, parameters]))
    }
);

native!(Java_io_cosmosflink_core_Natives_addSplits, |env,
                                                     handle: jlong,
                                                     list: JByteArray<
    'local,
>|
 -> () {
    let splits = split::decode_list(&read(env, &list)?)?
        .into_iter()
        .map(|e| e.split)
        .collect();
    with_source(handle, |source| source.add_splits(splits))
});

native!(
    Java_io_cosmosflink_core_Natives_pauseOrResumeSplits,
    |env, handle: jlong, pause: JByteArray<'local>, resume: JByteArray<'local>| -> () {
        let pause = frame::decode_strings(&read(env, &pause)?)?;
        let resume = frame::decode_strings(&read(env, &resume)?)?;
        with_source(handle, |source| source.pause_or_resume(&pause, &resume))
    }
);

native!(Java_io_cosmosflink_core_Natives_publish, |env,
                                                   handle: jlong,
                                                   checkpoint: jlong,
                                                   list: JByteArray<
    'local,
>|
 -> () {
    let splits: Vec<_> = split::decode_list(&read(env, &list)?)?
        .into_iter()
        .map(|e| e.split)
        .collect();
    with_source(handle, |source| {
        source.publish(checkpoint.unsigned_abs(), &splits);
        Ok(())
    })
});

native!(
    Java_io_cosmosflink_core_Natives_startTokens,
    |env, list: JByteArray<'local>, state: JByteArray<'local>| -> JByteArray<'local> {
        let splits = split::decode_list(&read(env, &list)?)?
            .into_iter()
            .map(|e| e.split)
            .collect();
        let text = tokens_file::write(splits, &read(env, &state)?)?;
        write(env, text.as_bytes())
    }
);

native!(
    Java_io_cosmosflink_core_Natives_nextPage,
    |env, handle: jlong, into: JByteArray<'local>, timeout_millis: jlong| -> jint {
        if into.is_null() {
            return Err(CoreError::new(Kind::BadRequest, "the array for the page is null").into());
        }
        let room = into.len(env)?;
        let deadline = Instant::now() + wait(timeout_millis);
        let Some(source) = source(handle, wait(timeout_millis))? else {
            return Ok(0);
        };
        let size = source.next_page(deadline.saturating_duration_since(Instant::now()))?;
        let announced = jint::try_from(size)
            .map_err(|_| CoreError::internal(format!("a page of {size} bytes; lower scan.page-size")))?;
        if size == 0 {
            return Ok(0);
        }
        if size > room {
            return Ok(-announced);
        }
        let (page, mut at) = (source.take_frame()?, 0);
        for part in page.parts() {
            // SAFETY: u8 and i8 have the same size and alignment, and every bit pattern is valid for both.
            let signed = unsafe { std::slice::from_raw_parts(part.as_ptr().cast::<i8>(), part.len()) };
            into.set_region(env, at, signed)?;
            // Fits, since the whole does.
            at += part.len() as jint;
        }
        Ok(announced)
    }
);
