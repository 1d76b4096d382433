//! The native of a catalog. It has no handle: what is asked for is rare, and a catalog may never be closed.

use ::jni::objects::JByteArray;
use ::jni::sys::jlong;

use super::{native, read, wait, write};
use crate::catalog::{administer, Request};
use crate::{frame, log_ring};

native!(
    Java_io_cosmosflink_core_Natives_administer,
    |env,
     options: JByteArray<'local>,
     request: JByteArray<'local>,
     timeout_millis: jlong|
     -> JByteArray<'local> {
        log_ring::install();
        let options = frame::decode_map(&read(env, &options)?)?;
        let request = Request::decode(&read(env, &request)?)?;
        let answer = administer(&options, request, wait(timeout_millis))?;
        write(env, &answer.encode())
    }
);
