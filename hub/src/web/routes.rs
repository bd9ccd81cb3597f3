//! The one way to make a route: it names its action, and passes the door before it answers.

use super::input::Raw;
use super::problem::Problem;
use super::same_origin;
use super::{
    Web, administration, agreements, cameras, clock, coverage, edges, holds, pages, partners, people, playbacks,
    register, searches, unsealings,
};
use super::{session, thumbnails};
use crate::access::{Action, Pass, Principal, Request};
use axum::Router;
use axum::extract::RawPathParams;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use campanile_proto::kind::Kind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A search of a thousand cameras named by id fits.
const MAX_BODY_BYTES: usize = 64 * 1024;
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Until the answer starts; what is streamed goes on for longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Where a request came in; set by the listener.
#[derive(Debug, Clone, Copy)]
pub(super) enum Visitor {
    Network(IpAddr),
    /// Through the administration socket, whose peer the kernel named.
    Local {
        uid: u32,
    },
}

/// A request that was let in.
pub(super) struct Call<I> {
    pub web: Arc<Web>,
    pub pass: Pass,
    pub input: I,
    pub visitor: Visitor,
    /// The session cookie's value, when there is one.
    pub token: Option<String>,
}

impl<I> Call<I> {
    pub fn who(&self) -> &Principal {
        &self.pass.request().principal
    }
}

/// One route, for the test that enumerates them.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub method: Method,
    pub path: &'static str,
    pub action: Action,
}

pub(super) struct Routes {
    web: Arc<Web>,
    router: Router,
    #[cfg(test)]
    pub entries: Vec<Entry>,
}

impl Routes {
    fn new(web: Arc<Web>) -> Self {
        Self {
            web,
            router: Router::new(),
            #[cfg(test)]
            entries: Vec::new(),
        }
    }

    /// `read` turns what came in into what is asked, and says so to the door; `answer` runs only with a pass.
    pub fn add<I, R, A, F>(mut self, method: Method, path: &'static str, action: Action, read: R, answer: A) -> Self
    where
        I: Send + 'static,
        R: Fn(&Web, &mut Request, &Raw) -> Result<I, Problem> + Clone + Send + Sync + 'static,
        A: Fn(Call<I>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, Problem>> + Send,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a known method, because all are written here");
        let web = self.web.clone();
        let serve = move |names: RawPathParams, request: axum::extract::Request| {
            let (web, read, answer) = (web.clone(), read.clone(), answer.clone());
            async move {
                let served = async {
                    let call = enter(web, action, names, request, read).await?;
                    answer(call).await
                };
                match tokio::time::timeout(ANSWER_WITHIN, served).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(problem)) => problem.into_response(),
                    Err(_) => Problem::new(Kind::Unavailable, "TIMED_OUT", "the hub did not get it done in time")
                        .into_response(),
                }
            }
        };
        self.router = self.router.route(path, on(filter, serve));
        #[cfg(test)]
        self.entries.push(Entry { method, path, action });
        self
    }

    pub fn router(self) -> Router {
        let unknown = || async { Problem::not_found().into_response() };
        self.router.fallback(unknown).layer(axum::middleware::map_response(with_security_headers))
    }
}

/// Who, whether they may at all, what exactly, whether they may that.
async fn enter<I, R>(
    web: Arc<Web>,
    action: Action,
    names: RawPathParams,
    request: axum::extract::Request,
    read: R,
) -> Result<Call<I>, Problem>
where
    R: Fn(&Web, &mut Request, &Raw) -> Result<I, Problem>,
{
    let (parts, body) = request.into_parts();
    let visitor = *parts.extensions.get::<Visitor>().ok_or_else(Problem::not_found)?;
    let token = cookie(&parts.headers, &web.hub.people.cookie_name(web.secure_cookies));
    let principal = principal(&web, visitor, token.as_deref());
    web.hub.door.admits(&principal, action).await?;
    if matches!(visitor, Visitor::Network(_)) {
        same_origin::demand(&parts)?;
    }
    let body = tokio::time::timeout(BODY_WITHIN, axum::body::to_bytes(body, MAX_BODY_BYTES)).await;
    let too_large = || Problem::new(Kind::Invalid, "BODY", format!("send at most {MAX_BODY_BYTES} bytes, at once"));
    let body = body.ok().and_then(Result::ok).ok_or_else(too_large)?;
    let names = names.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let raw = Raw::new(names, parts.uri.query().unwrap_or_default(), body);
    let mut asked = Request::new(principal, action);
    let input = read(&web, &mut asked, &raw)?;
    let pass = web.hub.door.enter(asked).await?;
    Ok(Call { web, pass, input, visitor, token })
}

fn principal(web: &Web, visitor: Visitor, token: Option<&str>) -> Principal {
    match visitor {
        Visitor::Local { uid } => Principal::Administrator { uid },
        Visitor::Network(_) => match token.and_then(|token| web.hub.people.session(token)) {
            Some(session) => Principal::Operator { name: session.name, role: session.role },
            None => Principal::Nobody,
        },
    }
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

/// What the page may do: load from here, and nothing else (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
    media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn with_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Footage and events stay in no cache.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Every route there is.
pub(super) fn all(web: Arc<Web>) -> Routes {
    let mut routes = Routes::new(web);
    for add in [
        pages::add,
        session::add,
        cameras::add,
        coverage::add,
        searches::add,
        thumbnails::add,
        playbacks::add,
        edges::add,
        people::add,
        partners::add,
        agreements::add,
        register::add,
        administration::add,
        clock::add,
        holds::add,
        unsealings::add,
    ] {
        routes = add(routes);
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_hubs_cookies_in_one_jar_each_reads_its_own() {
        let mut jar = HeaderMap::new();
        let both = "campanile-00000000-0000-0000-0000-000000000001=prato; campanile-00000000-0000-0000-0000-000000000002=firenze";
        jar.append(header::COOKIE, HeaderValue::from_static(both));
        jar.append(header::COOKIE, HeaderValue::from_static("other=x=y"));
        let read = |name: &str| cookie(&jar, name);
        assert_eq!(read("campanile-00000000-0000-0000-0000-000000000001").as_deref(), Some("prato"));
        assert_eq!(read("campanile-00000000-0000-0000-0000-000000000002").as_deref(), Some("firenze"));
        assert_eq!(read("other").as_deref(), Some("x=y"));
        assert_eq!(read("campanile"), None);
    }
}
