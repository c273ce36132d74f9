//! What the tour prints.

use std::time::Duration;

use isthmus_local_cloud::{app::Verdict, stack::Stack};

use super::{
    step::{Outcome, Step},
    tour::Traffic,
};

pub(crate) fn step(number: usize, step: &Step, outcome: &Outcome) {
    println!("\n{number}. {}", step.title);
    println!("   request  {} {}", step.method, step.path);
    for (name, value) in &step.headers {
        // Tokens are credentials, on a screen too.
        let shown = if *name == "authorization" {
            format!("Bearer <{}>", step.token_note)
        } else {
            value.clone()
        };
        println!("            {name}: {shown}");
    }
    println!("   answer   {} {}", outcome.status, outcome.reason);
    match &outcome.seen {
        None => println!("   VM saw   nothing"),
        Some(seen) => {
            println!("   VM saw   {} {}", seen.method, seen.path);
            println!("            authorization: {}", azure_token(&seen.azure));
            for name in ["x-user", "x-groups", "x-isthmus-role", "x-isthmus-credential"] {
                for value in seen.headers.get(name).into_iter().flatten() {
                    println!("            {name}: {value}");
                }
            }
        }
    }
    println!("   audit    {}", outcome.audit);
    print_promise(&outcome.broken);
}

pub(crate) fn rotation_begins(lifetime: Duration) {
    println!(
        "\n… sending requests while Azure tokens of {} s come and go …",
        lifetime.as_secs()
    );
}

pub(crate) fn rotation(number: usize, traffic: &Traffic) {
    println!("\n{number}. rotation under traffic");
    println!(
        "   {} requests in {:.1} s, {} failed; the VM saw {} different Azure tokens",
        traffic.requests,
        traffic.duration.as_secs_f64(),
        traffic.failed,
        traffic.tokens
    );
    let broken = if traffic.as_promised() {
        vec![]
    } else {
        vec!["requests failed or tokens did not change".into()]
    };
    print_promise(&broken);
}

pub(crate) fn verdict(as_promised: bool) {
    println!(
        "\n{}",
        if as_promised {
            "Every step was as promised."
        } else {
            "Not every step was as promised."
        }
    );
}

/// How to go on by hand.
pub(crate) fn invitation(stack: &Stack) {
    let files = stack.files();
    let openid = &stack.cloud().openid;
    println!("\nThe stack stays up until Ctrl-C. Try it:\n");
    println!("  export DEMO={}", files.directory.display());
    println!("  export BRIDGE={}", stack.bridge_url());
    println!(
        "  token() {{ curl -s --cacert {} {} -d grant_type=client_credentials -d client_id=$1 \\",
        stack.cloud().ca_file.display(),
        openid.token_url()
    );
    println!("    -d client_secret=$2 | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/'; }}");
    for (client, name) in openid.clients().iter().zip(["READER", "OPERATOR"]) {
        println!("  {name}=$(token {} {})", client.id, client.secret);
    }
    println!("  bridge() {{ curl -s -w '\\n%{{http_code}}\\n' --cacert $DEMO/ca.pem --cert $DEMO/client.pem --key $DEMO/client.key \"$@\"; }}\n");
    println!("  bridge $BRIDGE/metrics/cpu");
    println!("  bridge $BRIDGE/metrics/cpu -H \"Authorization: Bearer $READER\"");
    println!("  bridge $BRIDGE/storage/orders -X DELETE -H \"Authorization: Bearer $READER\"");
    println!("  bridge $BRIDGE/storage/orders -X DELETE -H \"Authorization: Bearer $OPERATOR\"");
    println!("  tail -f $DEMO/bridge.access.log        # the audit events");
}

fn azure_token(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Valid { appid, roles, .. } => {
            format!(
                "Bearer <Azure token of application {appid}, roles {}>",
                roles.join(" ")
            )
        }
        Verdict::Invalid(problem) => format!("no valid Azure token: {problem}"),
    }
}

fn print_promise(broken: &[String]) {
    if broken.is_empty() {
        println!("   ✓ as promised");
    } else {
        println!("   ✗ NOT as promised: {}", broken.join("; "));
    }
}
