//! The page: price, what was used and is left, stop. All of it works without JavaScript.

mod assets;
mod channel;
mod fields;
mod frame;
mod live;
mod numbers;
mod packed;
#[cfg(test)]
mod tests;
mod text;
mod ways;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use self::frame::{Frame, Notice};
use self::text::Text;
use super::ask::{Question, Told};
use super::body::read;
use super::caller::Caller;
use super::problem::Problem;

/// Bytes of a form, at most.
const MAX_FORM_BYTES: usize = 256;

/// What a browser may do with our pages: nothing that they don't bring along themselves.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// The routes of the page.
pub(super) fn routes() -> Router<Caller> {
    Router::new()
        .route("/", get(page))
        .route("/live", get(live::live))
        .route("/stop", post(stop))
        .route(assets::STYLE.path, get(async |headers: HeaderMap| assets::STYLE.answer(&headers)))
        .route(assets::SCRIPT.path, get(async |headers: HeaderMap| assets::SCRIPT.answer(&headers)))
        .route(assets::PAY.path, get(async |headers: HeaderMap| assets::PAY.answer(&headers)))
        .route(assets::ICON.path, get(async |headers: HeaderMap| assets::ICON.answer(&headers)))
}

async fn page(
    State(caller): State<Caller>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(there) = caller.lead_to_tls(&method) {
        return Ok(there);
    }
    show(&caller, language(&uri, &headers), &headers, Notice::None).await
}

/// Closes the visitor's own gate, if the visitor's own page asks for it.
async fn stop(State(caller): State<Caller>, request: Request) -> Result<Response, Problem> {
    caller.admit_origin(&request)?;
    let (head, body) = request.into_parts();
    let form = read(body, MAX_FORM_BYTES).await?;
    let form = String::from_utf8_lossy(&form);
    let text = field(&form, "lang").and_then(text::of_tag);
    let text = text.unwrap_or_else(|| text::of_headers(&head.headers));
    let mac = caller.mac()?;
    let good = field(&form, "pass").is_some_and(|pass| caller.hall.passes.is_good(mac, pass));
    if !good {
        return show(&caller, text, &head.headers, Notice::TooOld).await;
    }
    match caller.ask(Question::Stop { mac }).await {
        Ok(Told::Stopped) => Ok(back(text)),
        _ => show(&caller, text, &head.headers, Notice::NotStopped).await,
    }
}

/// To the page, with a GET: reloading it sends nothing again.
fn back(text: &Text) -> Response {
    let place = HeaderValue::from_str(&address(text)).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
}

/// The page in this language.
fn address(text: &Text) -> String {
    format!("/?lang={}", text.tag)
}

async fn show(
    caller: &Caller,
    text: &'static Text,
    headers: &HeaderMap,
    notice: Notice,
) -> Result<Response, Problem> {
    let visit = caller.visit().await?;
    let mac = caller.mac()?;
    let pass = caller.hall.passes.issue(mac);
    let (secure, gateway) = (caller.is_secure(), caller.plain_url(""));
    let frame = Frame { text, visit: &visit, mac, pass: &pass, notice, secure, gateway };
    let html = frame.render().into_string();
    let mut response = packed::answer("text/html; charset=utf-8", html.into_bytes(), headers);
    *response.status_mut() = notice.status();
    let own = response.headers_mut();
    own.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    own.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(text.tag));
    own.append(header::VARY, HeaderValue::from_static("accept-language"));
    own.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    own.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    Ok(response)
}

/// The language that the address names, else the browser's.
fn language(uri: &Uri, headers: &HeaderMap) -> &'static Text {
    let named = field(uri.query().unwrap_or_default(), "lang").and_then(text::of_tag);
    named.unwrap_or_else(|| text::of_headers(headers))
}

/// A field of a form or a query. Ours need no escapes.
fn field<'a>(form: &'a str, name: &str) -> Option<&'a str> {
    form.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}
