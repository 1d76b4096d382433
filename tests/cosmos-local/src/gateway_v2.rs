//! An endpoint that speaks Gateway 2.0, to find clients out that go there.
//!
//! Gateway 2.0 carries a request inside a binary frame, with the headers that the frame has tokens for. All others are
//! lost on the way, so that a bulk request arrives as the creation of one document. The vendor's emulator unwraps the
//! frame and answers it. Documents that are written this way do not reach the change feed of this server.

use crate::emulator::Reply;
use crate::faults::{Kind, Target};
use crate::regions::Role;
use crate::requests::{Asked, Entry};
use crate::server::{header, Dropped, Inner};
use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_core::http::{Method, Request};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use std::time::Instant;

/// Clients ask here whether they reach the endpoint by HTTP/2, before they use it.
const PROBE: &str = "/connectivity-probe";

/// Answers a request to the Gateway 2.0 of a region.
pub(crate) async fn answer(
    server: &Inner,
    role: Role,
    arrived: Instant,
    parts: hyper::http::request::Parts,
    body: Bytes,
) -> Result<Reply, Dropped> {
    let http2 = parts.version == hyper::Version::HTTP_2;
    if parts.uri.path() == PROBE {
        return Ok(Reply::new(if http2 { 200 } else { 505 }, ""));
    }
    server.counts.with(|stats| stats.gateway_v2_requests += 1);
    let strike = if server.faults.active() {
        server.faults.strike(&Target {
            kind: Kind::GatewayV2,
            region: Some(server.regions.name(role)),
            headers: Some(&parts.headers),
            bytes: body.len(),
            ..Target::default()
        })
    } else {
        None
    }
    .unwrap_or_default();
    if !strike.delay.is_zero() {
        tokio::time::sleep(strike.delay).await;
    }
    let reply = match strike.reply() {
        Some(reply) => reply,
        None if strike.refuse || strike.drop_response => return Err(Dropped),
        None if strike.hang => {
            server.until_stopped().await;
            return Err(Dropped);
        }
        None => {
            let segments: Vec<_> = parts
                .uri
                .path()
                .split('/')
                .filter(|segment| !segment.is_empty())
                .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
                .collect();
            let mut request = Request::new(server.emulator.url(&segments), Method::Post);
            for (name, value) in &parts.headers {
                if let Ok(value) = value.to_str() {
                    request.insert_header(
                        HeaderName::from(name.as_str().to_owned()),
                        HeaderValue::from(value.to_owned()),
                    );
                }
            }
            request.set_body(body.clone());
            server.emulator.gateway_v2(&request).await.into()
        }
    };
    server.counts.request(Kind::GatewayV2, reply.status, 0.0);
    let entry = Entry {
        kind: Kind::GatewayV2.name(),
        status: Some(reply.status),
        sub_status: header(&reply.headers, "x-ms-substatus")
            .and_then(|code| code.parse().ok())
            .unwrap_or_default(),
        bytes: body.len(),
        answer_bytes: reply.body.len(),
        http: if http2 { "2" } else { "1.1" },
        region: Some(server.regions.name(role).into()),
        ..Entry::default()
    };
    let asked = Asked {
        method: &parts.method,
        path: &[parts.uri.path().trim_matches('/').to_owned()],
        headers: &parts.headers,
        body: &body,
    };
    server.requests.add(entry, arrived, &asked);
    Ok(reply)
}
