//! The natives of `io.cosmosflink.core.Natives`: thin shells that turn arrays into slices, call the core and turn errors
//! and panics into one Java exception.
//!
//! Several class loaders share one copy of this library, so nothing of Java (class, method id, reference) is kept
//! in a static: each call finds what it needs through its own class loader.

use std::sync::Arc;
use std::time::Duration;

use ::jni::errors::ErrorPolicy;
use ::jni::objects::{JByteArray, JThrowable, JValue};
use ::jni::sys::{jint, jlong};
use ::jni::{jni_sig, jni_str, Env};

use crate::config::{self, Config, Role};
use crate::enumerator::SplitEnumerator;
use crate::error::{panic_text, CoreError, Kind};
use crate::frame;
use crate::handles::Handles;
use crate::log_ring;
use crate::lookup::Lookup;
use crate::metrics;
use crate::opening::{Lifecycle, Opening};
use crate::share::Peers;
use crate::sink::Sink;
use crate::source::Source;
use crate::split;

mod catalog;
mod enumerator;
mod lookup;
mod sink;
mod source;

/// What the library speaks: the number in the file from which the jar's is copied as well. The jar refuses another one.
const ABI_VERSION: jint = match jint::from_str_radix(include_str!("../../ABI_VERSION").trim_ascii(), 10) {
    Ok(number) => number,
    Err(_) => panic!("rust-core/ABI_VERSION is no number"),
};

/// Longest time that one call may wait, so that a thread never hangs in native code for longer than Flink's own time-outs.
const MAX_WAIT: Duration = Duration::from_secs(60);

enum Handle {
    Enumerator(Box<SplitEnumerator>),
    Source(Opening<Source>),
    Sink(Opening<Sink>),
    Lookup(Opening<Lookup>),
}

impl Handle {
    fn lifecycle(&self) -> &dyn Lifecycle {
        match self {
            Handle::Enumerator(enumerator) => &**enumerator,
            Handle::Source(source) => source,
            Handle::Sink(sink) => sink,
            Handle::Lookup(lookup) => lookup,
        }
    }
}

static HANDLES: Handles<Handle> = Handles::new();

/// An error of a native: ours, or one of JNI itself.
struct NativeError(CoreError);

impl From<CoreError> for NativeError {
    fn from(e: CoreError) -> Self {
        NativeError(e)
    }
}

impl From<::jni::errors::Error> for NativeError {
    fn from(e: ::jni::errors::Error) -> Self {
        NativeError(CoreError::internal(format!("JNI: {e}")))
    }
}

/// Throws `io.cosmosflink.core.CosmosException` for an error or a panic.
struct Throw;

impl Throw {
    fn throw(env: &mut Env<'_>, error: &CoreError) {
        if env.exception_check() {
            // The JVM's own (OutOfMemoryError while an array was made, say) says more.
            return;
        }
        let thrown = (|| -> ::jni::errors::Result<()> {
            let message = env.new_string(&error.message)?;
            let activity = env.new_string(&error.activity_id)?;
            let exception = env.new_object(
                jni_str!("io/cosmosflink/core/CosmosException"),
                jni_sig!("(Ljava/lang/String;IIILjava/lang/String;)V"),
                &[
                    JValue::Object(&message),
                    JValue::Int(error.kind as jint),
                    JValue::Int(jint::from(error.status)),
                    JValue::Int(error.sub_status as jint),
                    JValue::Object(&activity),
                ],
            )?;
            let exception = env.cast_local::<JThrowable>(exception)?;
            env.throw(exception)
        })();
        if let Err(e) = thrown {
            if !env.exception_check() {
                // The exception class itself is missing: a jar that is not ours. Java must hear of it all the same.
                tracing::error!(target: "cosmosflink::jni", "cannot throw '{error}': {e}");
                let _ = env.throw(error.message.as_str());
            }
        }
    }
}

impl<T: Default> ErrorPolicy<T, NativeError> for Throw {
    type Captures<'unowned: 'native, 'native> = ();

    fn on_error<'unowned: 'native, 'native>(
        env: &mut Env<'unowned>,
        _: &mut Self::Captures<'unowned, 'native>,
        error: NativeError,
    ) -> ::jni::errors::Result<T> {
        Throw::throw(env, &error.0);
        Ok(T::default())
    }

    fn on_panic<'unowned: 'native, 'native>(
        env: &mut Env<'unowned>,
        _: &mut Self::Captures<'unowned, 'native>,
        payload: Box<dyn std::any::Any + Send + 'static>,
    ) -> ::jni::errors::Result<T> {
        Throw::throw(
            env,
            &CoreError::internal(format!("panic in the core: {}", panic_text(&*payload))),
        );
        Ok(T::default())
    }
}

type NativeResult<T> = std::result::Result<T, NativeError>;

fn read(env: &Env<'_>, array: &JByteArray<'_>) -> NativeResult<Vec<u8>> {
    if array.is_null() {
        return Err(CoreError::new(Kind::BadRequest, "an array argument is null").into());
    }
    Ok(env.convert_byte_array(array)?)
}

fn write<'a>(env: &mut Env<'a>, bytes: &[u8]) -> NativeResult<JByteArray<'a>> {
    Ok(env.byte_array_from_slice(bytes)?)
}

fn wait(millis: jlong) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(MAX_WAIT)
}

fn config(env: &Env<'_>, options: &JByteArray<'_>, role: Role) -> NativeResult<Config> {
    log_ring::install();
    Ok(Config::parse(role, &frame::decode_map(&read(env, options)?)?)?)
}

/// Those that share a budget of request units with the handle that is being opened.
fn peers(env: &Env<'_>, count: jint, group: &JByteArray<'_>) -> NativeResult<Peers> {
    Ok(Peers {
        count: u32::try_from(count).unwrap_or_default().max(1),
        group: String::from_utf8_lossy(&read(env, group)?).into_owned(),
    })
}

fn wrong(expected: &str) -> CoreError {
    CoreError::new(Kind::BadRequest, format!("the handle is not that of {expected}"))
}

/// Declares a native: name, arguments, result, and a body that may fail.
macro_rules! native {
    ($symbol:ident, |$env:ident $(, $arg:ident : $type:ty)*| -> $ret:ty $body:block) => {
        #[no_mangle]
        pub extern "system" fn $symbol<'local>(mut unowned: ::jni::EnvUnowned<'local>, _class: ::jni::objects::JClass<'local> $(, $arg: $type)*) -> $ret {
            unowned.with_env(|$env| -> $crate::jni::NativeResult<$ret> { $body }).resolve::<$crate::jni::Throw>()
        }
    };
}

use native;

native!(Java_io_cosmosflink_core_Natives_abiVersion, |_env| -> jint {
    Ok(ABI_VERSION)
});

native!(Java_io_cosmosflink_core_Natives_optionTable, |env| -> JByteArray<
    'local,
> {
    write(env, &config::encode_table())
});

native!(Java_io_cosmosflink_core_Natives_metricTable, |env| -> JByteArray<
    'local,
> {
    write(env, &metrics::encode_table(metrics::METRICS))
});

native!(
    Java_io_cosmosflink_core_Natives_resolveOptions,
    |env, arguments: JByteArray<'local>, environment: JByteArray<'local>| -> JByteArray<'local> {
        let arguments = frame::decode_map(&read(env, &arguments)?)?;
        let environment = frame::decode_map(&read(env, &environment)?)?;
        let out = config::resolve(&arguments, &environment)?;
        write(
            env,
            &frame::encode_map(out.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
        )
    }
);

native!(
    Java_io_cosmosflink_core_Natives_validateOptions,
    |env, role: jint, options: JByteArray<'local>| -> JByteArray<'local> {
        let out = config::validate(
            Role::from_number(role)?,
            &frame::decode_map(&read(env, &options)?)?,
        )?;
        write(
            env,
            &frame::encode_map(out.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
        )
    }
);

native!(
    Java_io_cosmosflink_core_Natives_describeSplit,
    |env, bytes: JByteArray<'local>| -> JByteArray<'local> {
        let split = split::Split::decode(&read(env, &bytes)?)?;
        write(
            env,
            &split::encode_list(&[split::SplitEntry {
                split,
                assigned: false,
            }]),
        )
    }
);

native!(
    Java_io_cosmosflink_core_Natives_awaitOpen,
    |_env, handle: jlong, timeout_millis: jlong| -> jint {
        let handle = HANDLES.get(handle)?;
        Ok(jint::from(handle.lifecycle().await_open(wait(timeout_millis))?))
    }
);

native!(Java_io_cosmosflink_core_Natives_wakeUp, |_env,
                                                  handle: jlong|
 -> () {
    HANDLES.get(handle)?.lifecycle().wake_up();
    Ok(())
});

native!(Java_io_cosmosflink_core_Natives_metrics, |env,
                                                   handle: jlong|
 -> JByteArray<
    'local,
> {
    let frame = HANDLES.get(handle)?.lifecycle().metrics();
    write(env, &frame)
});

native!(Java_io_cosmosflink_core_Natives_close, |_env,
                                                 handle: jlong|
 -> () {
    if let Some(taken) = HANDLES.remove(handle) {
        taken.lifecycle().close();
        // A call that is under way on another thread holds the last reference; it ends at once with Closed.
        drop::<Arc<Handle>>(taken);
    }
    Ok(())
});

native!(Java_io_cosmosflink_core_Natives_drainLog, |env,
                                                    max: jint|
 -> JByteArray<
    'local,
> {
    write(env, &log_ring::drain(usize::try_from(max).unwrap_or(0)))
});

native!(Java_io_cosmosflink_core_Natives_setLogLevel, |_env,
                                                       level: jint|
 -> () {
    log_ring::install();
    log_ring::set_level(u8::try_from(level).unwrap_or(0));
    Ok(())
});
