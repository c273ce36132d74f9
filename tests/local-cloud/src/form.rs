//! Parameters of a form or a query, with RFC 6749's rule that none may come twice.

use std::collections::HashMap;

use axum::{
    extract::{Form, FromRequest as _, Query, Request},
    http::Uri,
};

/// The parameters by name.
pub(crate) type Parameters = HashMap<String, String>;

/// The parameters of an `application/x-www-form-urlencoded` body.
pub(crate) async fn body(request: Request) -> Result<Parameters, BadForm> {
    let Form(pairs) = Form::<Vec<(String, String)>>::from_request(request, &())
        .await
        .map_err(|_| BadForm::NotAForm)?;
    unique(pairs)
}

/// The parameters of a query string.
pub(crate) fn query(uri: &Uri) -> Result<Parameters, BadForm> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| BadForm::NotAForm)?;
    unique(pairs)
}

/// Why there are no parameters.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadForm {
    #[error("not an application/x-www-form-urlencoded form")]
    NotAForm,
    #[error("the parameter '{0}' comes twice")]
    Repeated(String),
}

fn unique(pairs: Vec<(String, String)>) -> Result<Parameters, BadForm> {
    let mut parameters = Parameters::with_capacity(pairs.len());
    for (name, value) in pairs {
        if parameters.insert(name.clone(), value).is_some() {
            return Err(BadForm::Repeated(name));
        }
    }
    Ok(parameters)
}
