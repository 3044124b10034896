// Made with Python's hmac and hashlib, and with `openssl enc -aes-128-cbc -nopad`, from the values in `exchange`:
// suite, RAKP 2, RAKP 3, RAKP 4, a sealed packet.
const VECTORS: [(Suite, &str, &str, &str, &str); 2] = [
    (
        Suite::Seventeen,
        "d3779e936b0db68d557443f07293d825fcc0eacf55441286bf69d7bc87a87b61",
        "8ad9762384f0a9a43954bcbad4d24bd4fffe0df7c81432e1a94e358343c3b2d2",
        "5aa808cd83f57c3da36121a2f4a835e5",
        "0600ff0706c0020400020700000020005a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a11abbd8f9ddebae391e6b6cdd90c1027ffff0207ce139d33c129c3ef3b40fe681d9a7f67",
    ),
    (
        Suite::Three,
        "468f7b90f52fcc5649bfc547f229e320a0ffa73b",
        "2704219bdd1a3980e2769d99c0897861b49a081b",
        "c0aeffad01d5ca43be3e5b1e",
        "0600ff0706c0020400020700000020005a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5aadb10dff37dd87bb377eb9d1bc2f7967ffff020720bdb95ed6ae06dcbbee954f",
    ),
];
