//! Manifests of the BMCs, and curl's list of them.

use std::{fmt::Write, net::SocketAddr};

use super::mock;

const HEAD: &str = "apiVersion: rackctl.dev/v1alpha1\nkind: Credential\nmetadata: { name: c }\n\
                    spec: { username: root, passwordFrom: { env: BMC_PASSWORD } }\n";

fn node(index: usize, endpoint: &str) -> String {
    let [.., a, b, c, d] = index.to_be_bytes();
    format!(
        "---\napiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: {{ name: b{index} }}\nspec:\n  \
         bmc: {{ system: \"1\", endpoints: [{{ {endpoint}, credential: c }}] }}\n  \
         interfaces: [{{ name: e, mac: \"02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}\" }}]\n"
    )
}

pub fn redfish(hosts: &[SocketAddr], pin: &str) -> String {
    let nodes = hosts.iter().enumerate();
    let one = |(i, at): (usize, &SocketAddr)| {
        node(i, &format!("redfish: \"https://{at}\", tls: {{ pin: \"sha256:{pin}\" }}"))
    };
    HEAD.to_owned() + &nodes.map(one).collect::<String>()
}

pub fn ipmi(hosts: &[SocketAddr]) -> String {
    HEAD.to_owned() + &hosts.iter().enumerate().map(|(i, at)| node(i, &format!("ipmi: \"{at}\""))).collect::<String>()
}

pub fn curl(hosts: &[SocketAddr]) -> String {
    hosts.iter().fold(String::new(), |mut text, at| {
        let _ = writeln!(text, "url = \"https://{at}{}\"\noutput = \"/dev/null\"", mock::SYSTEM);
        text
    })
}
