//! The body of an answer: the whole of it, or a part and the end of the connection.

use crate::server::Dropped;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// What is sent to the client.
pub(crate) type Outgoing = Either<Full<Bytes>, Cut>;

/// Time for the first part to leave before the connection ends: an error of a body discards what was not sent yet.
const FLUSH: Duration = Duration::from_millis(20);

/// A body that announces its whole length and ends early.
pub(crate) struct Cut {
    part: Option<Bytes>,
    announced: u64,
    flushed: Pin<Box<tokio::time::Sleep>>,
}

/// The whole body, or its first bytes where a fault cuts it.
pub(crate) fn outgoing(body: Bytes, cut: Option<usize>) -> Outgoing {
    match cut.filter(|cut| *cut < body.len()) {
        None => Either::Left(Full::new(body)),
        Some(cut) => Either::Right(Cut {
            announced: body.len() as u64,
            part: Some(body.slice(..cut)),
            flushed: Box::pin(tokio::time::sleep(FLUSH)),
        }),
    }
}

impl Body for Cut {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        match self.part.take().filter(|part| !part.is_empty()) {
            Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
            None => self.flushed.as_mut().poll(context).map(|()| Some(Err(Dropped))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
