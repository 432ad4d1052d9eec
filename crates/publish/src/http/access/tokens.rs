//! Checks bearer tokens as Kubernetes' own components do: a TokenReview says whose the token is, and a SubjectAccessReview
//! whether that user may get the path.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use afd_apiserver::{ApiCalls, CallError};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

use super::{
    ClientNetwork, Refusal,
    cache::{BoundedCache, CacheKey},
    queue::{CheckQueue, CheckTurn},
};

/// Requests to the API server at a time.
const SLOTS: usize = 2;
/// A client with a wrong token keeps its slot for this long, which bounds the requests of a flood to 20 a second.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(100);
const MAX_TOKENS: usize = 64;
const MAX_DECISIONS: usize = 256;
const GRANTED_LIFETIME: Duration = Duration::from_secs(60);
const REFUSED_LIFETIME: Duration = Duration::from_secs(10);

/// Checks tokens by the API server, and remembers the results for a minute.
pub struct TokenVerifier {
    client: Client,
    calls: ApiCalls,
    queue: CheckQueue,
    users: BoundedCache<Arc<UserInfo>>,
    granted: BoundedCache<()>,
    /// Invalid tokens, and paths that are not permitted.
    refused: BoundedCache<Refusal>,
    /// Whether the last request failed, so that failures are logged once.
    is_failing: AtomicBool,
}

impl TokenVerifier {
    /// A verifier that counts its requests.
    pub fn new(client: Client, calls: ApiCalls) -> TokenVerifier {
        TokenVerifier {
            client,
            calls,
            queue: CheckQueue::new(SLOTS),
            users: BoundedCache::new(MAX_TOKENS, GRANTED_LIFETIME),
            granted: BoundedCache::new(MAX_DECISIONS, GRANTED_LIFETIME),
            refused: BoundedCache::new(MAX_DECISIONS, REFUSED_LIFETIME),
            is_failing: AtomicBool::new(false),
        }
    }

    /// Whether the owner of a token may get a path.
    pub(super) async fn verify(
        &self,
        token: &str,
        path: &str,
        network: ClientNetwork,
    ) -> Result<(), Refusal> {
        let of_token = CacheKey::of(&[token.as_bytes()]);
        let of_path = CacheKey::of(&[token.as_bytes(), path.as_bytes()]);
        if let Some(result) = self.remembered(&of_token, &of_path) {
            return result;
        }
        let turn = LastingTurn(Some(self.queue.turn(network).await?));
        if let Some(result) = self.remembered(&of_token, &of_path) {
            turn.end();
            return result;
        }
        let result = self.review(token, path, of_token).await;
        let now = Instant::now();
        match result {
            Ok(()) => self.granted.insert(of_path, (), now),
            Err(refusal @ Refusal::Unauthorized { .. }) => self.refused.insert(of_token, refusal, now),
            Err(refusal @ Refusal::Forbidden) => self.refused.insert(of_path, refusal, now),
            Err(Refusal::Busy | Refusal::Unavailable) => {}
        }
        if result.is_ok() {
            turn.end();
        }
        result
    }

    fn remembered(&self, of_token: &CacheKey, of_path: &CacheKey) -> Option<Result<(), Refusal>> {
        let now = Instant::now();
        let refused = self.refused.get(of_token, now).or_else(|| self.refused.get(of_path, now));
        refused.map(Err).or_else(|| self.granted.get(of_path, now).map(Ok))
    }

    async fn review(&self, token: &str, path: &str, of_token: CacheKey) -> Result<(), Refusal> {
        let user = match self.users.get(&of_token, Instant::now()) {
            Some(user) => user,
            None => {
                let user = Arc::new(self.owner(token).await?);
                self.users.insert(of_token, Arc::clone(&user), Instant::now());
                user
            }
        };
        let attributes = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                uid: user.uid.clone(),
                groups: user.groups.clone(),
                extra: user.extra.clone(),
                non_resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let parameters = PostParams::default();
        let create = reviews.create(&parameters, &review);
        let review = self.answered(self.calls.call("create", "the access review", create).await)?;
        match review.status {
            Some(status) if status.allowed && status.denied != Some(true) => Ok(()),
            _ => Err(Refusal::Forbidden),
        }
    }

    /// The user that a token was issued to.
    async fn owner(&self, token: &str) -> Result<UserInfo, Refusal> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: None },
            ..TokenReview::default()
        };
        let reviews = Api::<TokenReview>::all(self.client.clone());
        let parameters = PostParams::default();
        let create = reviews.create(&parameters, &review);
        let review = self.answered(self.calls.call("create", "the token review", create).await)?;
        let status = review.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        user.ok_or(Refusal::Unauthorized { basic: false, bearer: true })
    }

    fn answered<T>(&self, result: Result<T, CallError>) -> Result<T, Refusal> {
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        result.map_err(|error| {
            if !was_failing {
                tracing::warn!(%error, "tokens cannot be checked; requests are refused");
            }
            Refusal::Unavailable
        })
    }
}

/// A turn that lasts a while longer unless a token is granted: also where the client does not wait for the result.
struct LastingTurn(Option<CheckTurn>);

impl LastingTurn {
    /// Ends it now.
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for LastingTurn {
    fn drop(&mut self) {
        if let Some(turn) = self.0.take() {
            tokio::spawn(async move {
                tokio::time::sleep(PAUSE_AFTER_REFUSAL).await;
                drop(turn);
            });
        }
    }
}
