//! User pools that nobody here wrote: MiniStack's Amazon Cognito, set up through its AWS API as an operator would,
//! its tokens from its own token endpoint, its keys from its own key sets.

use isthmus_local_cloud::stack::MiniStack;
use serde_json::{json, Value};

use crate::{
    load::{Answer, Caller},
    support::{assert_filter_never_failed, options, stack, DEADLINE},
};

struct UserPool {
    provider: String,
    id: String,
    http: reqwest::Client,
}

impl UserPool {
    /// A pool with the scope `orders/read`, and with `ada`, who is one of the `readers`.
    async fn create(provider: &MiniStack, name: &str) -> Self {
        let mut pool = Self {
            provider: provider.url(),
            id: String::new(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        let created = pool.call("CreateUserPool", json!({ "PoolName": name })).await;
        pool.id = text(&created["UserPool"]["Id"]);
        let scopes = json!([{"ScopeName": "read", "ScopeDescription": "to read orders"}]);
        for (action, input) in [
            (
                "CreateResourceServer",
                json!({"Identifier": "orders", "Name": "orders", "Scopes": scopes}),
            ),
            (
                "AdminCreateUser",
                json!({"Username": "ada", "MessageAction": "SUPPRESS"}),
            ),
            (
                "AdminSetUserPassword",
                json!({"Username": "ada", "Password": "Difference-Engine-1", "Permanent": true}),
            ),
            ("CreateGroup", json!({"GroupName": "readers"})),
            (
                "AdminAddUserToGroup",
                json!({"Username": "ada", "GroupName": "readers"}),
            ),
        ] {
            pool.call(action, input).await;
        }
        pool
    }

    /// The AWS JSON protocol, unsigned: MiniStack takes everybody for the root user of its account.
    async fn call(&self, action: &str, mut input: Value) -> Value {
        if !self.id.is_empty() {
            input["UserPoolId"] = self.id.clone().into();
        }
        let request = self
            .http
            .post(&self.provider)
            .header(
                "x-amz-target",
                format!("AWSCognitoIdentityProviderService.{action}"),
            )
            .header("content-type", "application/x-amz-json-1.1")
            .body(input.to_string());
        let answer = request.send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{action}: {status} {body}");
        serde_json::from_str(&body).unwrap_or_default()
    }

    /// A client of the pool; gives its id, and its secret if it has one.
    async fn client(&self, settings: Value) -> (String, Option<String>) {
        let created = self.call("CreateUserPoolClient", settings).await;
        let client = &created["UserPoolClient"];
        (
            text(&client["ClientId"]),
            client["ClientSecret"].as_str().map(str::to_owned),
        )
    }

    /// A client that is a machine: its id and an access token of its own.
    async fn machine(&self) -> (String, String) {
        let settings = json!({
            "ClientName": "machine",
            "GenerateSecret": true,
            "AllowedOAuthFlows": ["client_credentials"],
            "AllowedOAuthFlowsUserPoolClient": true,
            "AllowedOAuthScopes": ["orders/read"],
        });
        let (id, secret) = self.client(settings).await;
        let request = self
            .http
            .post(format!("{}/oauth2/token", self.provider))
            .basic_auth(&id, secret)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials&scope=orders%2Fread");
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        (id, text(&answer["access_token"]))
    }

    /// A client through which people come: its id, and `ada`'s access token and ID token.
    async fn ada(&self) -> (String, [String; 2]) {
        let settings =
            json!({"ClientName": "people", "ExplicitAuthFlows": ["ALLOW_ADMIN_USER_PASSWORD_AUTH"]});
        let (id, _) = self.client(settings).await;
        let password = json!({"USERNAME": "ada", "PASSWORD": "Difference-Engine-1"});
        let login =
            json!({"ClientId": id, "AuthFlow": "ADMIN_USER_PASSWORD_AUTH", "AuthParameters": password});
        let answer = self.call("AdminInitiateAuth", login).await;
        let tokens = &answer["AuthenticationResult"];
        (id, [text(&tokens["AccessToken"]), text(&tokens["IdToken"])])
    }

    fn document(&self, name: &str) -> String {
        format!("{}/{}/.well-known/{name}", self.provider, self.id)
    }

    /// What its own discovery document says.
    async fn discover(&self) -> Value {
        let document = self.http.get(self.document("openid-configuration")).send().await;
        document.unwrap().json().await.unwrap()
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}

/// The same token with another signature in the same form.
fn with_flipped_signature(token: &str) -> String {
    let middle = token.rfind('.').unwrap() + 100;
    let other = if &token[middle..=middle] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..middle], &token[middle + 1..])
}

fn is(answer: &Answer, status: u16, reason: &str) -> bool {
    (answer.status, &*answer.reason) == (status, reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_user_pools_that_nobody_here_wrote_pass_by_uri_and_by_discovery() {
    let provider = MiniStack::start(DEADLINE)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let pools = [
        UserPool::create(&provider, "by-uri").await,
        UserPool::create(&provider, "by-discovery").await,
    ];
    let (mut good, mut of_others) = (Vec::new(), Vec::new());
    let (mut providers, mut holders) = (Vec::new(), Vec::new());
    for (name, pool) in ["by-uri", "by-discovery"].into_iter().zip(&pools) {
        let (machine, token) = pool.machine().await;
        let (people, adas) = pool.ada().await;
        good.push(token);
        good.extend(adas);
        // A client of the same pool that the bridge has not been told of.
        of_others.push(pool.machine().await.1);
        let discovery = pool.discover().await;
        let jwks = match name {
            "by-uri" => json!({"uri": discovery["jwks_uri"], "cluster": "cognito"}),
            _ => json!({"discovery": pool.document("openid-configuration"), "cluster": "cognito"}),
        };
        providers.push(json!({
            "name": name,
            "preset": "cognito",
            "issuer": discovery["issuer"],
            "audiences": [machine, people],
            "jwks": jwks,
            "max_lifetime": "1h",
        }));
        holders.push(json!({"provider": name, "claim": "scope", "any": ["orders/read"]}));
        holders.push(json!({"provider": name, "claim": ["cognito:groups"], "any": ["readers"]}));
    }
    let (_, of_another_pool) = UserPool::create(&provider, "not-ours").await.machine().await;

    let mut options = options();
    options.provider = Some(provider.address());
    options.filter_config = Some(json!({
        "providers": providers,
        "claims_to_headers": [{"claim": ["cognito:groups"], "header": "x-groups", "format": "csv"}],
        "roles": [{
            "name": "reader",
            "credential": "azure/reader",
            "holders": holders,
            "allow": [{"methods": ["GET"], "paths": ["/metrics/**"]}],
        }],
    }));
    let stack = stack(options).await;
    let caller = Caller::new(&stack);
    for token in &good {
        let answer = caller.ask(token).await;
        assert!(is(&answer, 200, ""), "{answer:?} {token}\n{}", stack.bridge_log());
        let answer = caller.ask(&with_flipped_signature(token)).await;
        assert!(is(&answer, 401, "bad_signature"), "{answer:?} {token}");
    }
    for token in &of_others {
        let answer = caller.ask(token).await;
        assert!(is(&answer, 401, "wrong_audience"), "{answer:?} {token}");
    }
    let answer = caller.ask(&of_another_pool).await;
    assert!(is(&answer, 401, "unknown_issuer"), "{answer:?}");

    let groups: Vec<_> = stack
        .cloud()
        .app
        .seen()
        .iter()
        .map(|seen| seen.header("x-groups").map(str::to_owned))
        .collect();
    let readers = Some("readers".to_owned());
    let of_pool = [None, readers.clone(), readers];
    assert_eq!(groups, [of_pool.clone(), of_pool].concat());

    // Tokens live on when their provider does not.
    drop(provider);
    for token in &good {
        assert_eq!(caller.ask(token).await.status, 200);
    }
    assert_filter_never_failed(&stack).await;
}
