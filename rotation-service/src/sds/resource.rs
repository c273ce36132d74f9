//! Secrets as Envoy's messages (`envoy.extensions.transport_sockets.tls.v3.Secret`).

use envoy_types::pb::{
    envoy::{
        config::core::v3::{data_source::Specifier, DataSource},
        extensions::transport_sockets::tls::v3::{
            secret::Type, CertificateValidationContext, GenericSecret, Secret, TlsCertificate,
        },
    },
    google::protobuf::Any,
};
use prost::Message;

use crate::secret::Value;

/// The type of every resource that this service serves.
pub const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// A value as an SDS resource.
pub(super) fn encode(name: &str, value: &Value) -> Any {
    let kind = match value {
        Value::Token(token) => Type::GenericSecret(GenericSecret {
            secret: inline(token.expose()),
            ..GenericSecret::default()
        }),
        Value::CertifiedKey(pair) => Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(&pair.chain_pem),
            private_key: inline(pair.key_pem.expose()),
            ..TlsCertificate::default()
        }),
        Value::TrustBundle(pem) => Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(pem),
            ..CertificateValidationContext::default()
        }),
    };
    let secret = Secret {
        name: name.to_owned(),
        r#type: Some(kind),
    };
    Any {
        type_url: TYPE_URL.to_owned(),
        value: secret.encode_to_vec(),
    }
}

fn inline(bytes: &[u8]) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(Specifier::InlineBytes(bytes.to_vec())),
        ..DataSource::default()
    })
}
