use std::net::SocketAddr;

use super::{AccessRule, AccessRules, RuleError, Verdict};

fn rules(texts: &[&str]) -> AccessRules {
    texts.iter().map(|text| text.parse::<AccessRule>().unwrap()).collect()
}

fn allows(rules: &AccessRules, address: &str) -> bool {
    rules.allows(address.parse::<SocketAddr>().unwrap())
}

fn judge(rules: &AccessRules, target: &str) -> Verdict {
    rules.judge(&target.parse().unwrap())
}

#[test]
fn each_form_matches_what_it_says_and_nothing_beside_it() {
    for (rule, inside, outside) in [
        ("10.0.0.0/8:80", ["10.0.0.0:80", "10.255.255.255:80"], ["11.0.0.0:80", "10.0.0.0:81"]),
        ("10.1.2.3/8", ["10.0.0.0:1", "10.9.9.9:9"], ["9.255.255.255:1", "[::a00:1]:1"]),
        ("192.0.2.7:", ["192.0.2.7:1", "[::ffff:192.0.2.7]:2"], ["192.0.2.6:1", "192.0.2.8:1"]),
        ("192.0.2.7-20:1-2", ["192.0.2.7:1", "192.0.2.20:2"], ["192.0.2.21:1", "192.0.2.7:3"]),
        ("192.0.2.7-192.0.3.1", ["192.0.2.255:1", "192.0.3.1:1"], ["192.0.3.2:1", "192.0.2.6:1"]),
        (":443", ["1.2.3.4:443", "[2001:db8::1]:443"], ["1.2.3.4:442", "[2001:db8::1]:444"]),
        ("0.0.0.0/0", ["255.255.255.255:1", "0.0.0.0:1"], ["[::1]:1", "[2001:db8::1]:1"]),
        ("::/0", ["[::1]:1", "[2001:db8::1]:1"], ["1.2.3.4:1", "[::ffff:1.2.3.4]:1"]),
        ("::ffff:10.0.0.0/104", ["10.1.1.1:1", "[::ffff:10.1.1.1]:1"], ["11.0.0.0:1", "[::10.1.1.1]:1"]),
        ("[::1]:80", ["[::1]:80", "[0::1]:80"], ["[::1]:81", "[::2]:80"]),
        ("fe80::/10", ["[fe80::1]:1", "[febf::1]:1"], ["[fec0::1]:1", "[::1]:1"]),
        (
            "2001:db8::/32:443",
            ["[2001:db8::1]:443", "[2001:db8:ffff::]:443"],
            ["[2001:db9::]:443", "[2001:db8::]:1"],
        ),
        (
            "[2001:db8::1-2001:db8::5]:80",
            ["[2001:db8::1]:80", "[2001:db8::5]:80"],
            ["[2001:db8::6]:80", "1.1.1.1:80"],
        ),
        ("private:80", ["127.0.0.1:80", "[fd00::1]:80"], ["127.0.0.1:81", "8.8.8.8:80"]),
        (":", ["1.2.3.4:1", "[::1]:65535"], ["", ""]),
    ] {
        let rules = rules(&[rule]);
        for address in inside {
            assert!(allows(&rules, address), "{rule} has {address}");
        }
        for address in outside.into_iter().filter(|address| !address.is_empty()) {
            assert!(!allows(&rules, address), "{rule} lacks {address}");
        }
    }
}

fn from_parts(addresses: &[&str], ports: &[(u16, u16)]) -> Result<AccessRule, RuleError> {
    AccessRule::from_parts(addresses.iter().copied(), ports.iter().map(|(low, high)| *low..=*high))
}

#[test]
fn a_rule_of_several_parts_matches_each_address_on_each_port() {
    let rule = from_parts(&["10.0.0.0/8", " 192.0.2.7-20 "], &[(80, 80), (90, 150)]).unwrap();
    let rules: AccessRules = [rule].into_iter().collect();
    for address in ["10.1.1.1:80", "10.1.1.1:150", "192.0.2.8:90", "192.0.2.20:80"] {
        assert!(allows(&rules, address), "{address}");
    }
    for address in ["10.1.1.1:81", "192.0.2.21:80", "192.0.2.8:151"] {
        assert!(!allows(&rules, address), "{address}");
    }
    assert_eq!(judge(&rules, "a.test:81"), Verdict::Denied);
    assert_eq!(judge(&rules, "a.test:91"), Verdict::NeedsLookup);
    let any = from_parts(&[], &[]).unwrap();
    assert!(allows(&[any].into_iter().collect(), "[::1]:1"));
}

#[test]
fn a_rule_of_parts_denies_all_or_nothing() {
    let rules: AccessRules =
        [from_parts(&["!10.0.0.0/8", "!private"], &[(25, 25)]).unwrap()].into_iter().collect();
    assert!(!allows(&rules, "10.0.0.1:25") && !allows(&rules, "127.0.0.1:25"));
    assert!(allows(&rules, "10.0.0.1:26") && allows(&rules, "8.8.8.8:25"));
    let rules: AccessRules = [from_parts(&["!"], &[(25, 25)]).unwrap()].into_iter().collect();
    assert!(!allows(&rules, "8.8.8.8:25") && allows(&rules, "8.8.8.8:26"));
    assert_eq!(from_parts(&["!10.0.0.1", "10.0.0.2"], &[]), Err(RuleError::Mixed));
    for nothing in [&[""][..], &["10.0.0.1", " "], &["!", "!10.0.0.1"], &["!!10.0.0.1"]] {
        assert!(matches!(from_parts(nothing, &[]), Err(RuleError::Addresses(_))), "{nothing:?}");
    }
    assert_eq!(from_parts(&[], &[(2, 1)]), Err(RuleError::Ports("2-1".to_owned())));
}

#[test]
fn addresses_are_told_as_they_were_given() {
    for addresses in [
        &[][..],
        &["10.1.2.3/8", "192.0.2.7-20", "192.0.2.7-192.0.2.9", "::1", "Private"],
        &["!2001:db8::/32", "!192.0.2.7"],
        &["!"],
    ] {
        let rule = from_parts(addresses, &[(1, 2)]).unwrap();
        assert_eq!(rule.address_texts(), addresses);
        assert_eq!(rule.ports(), [1..=2]);
    }
    let rule: AccessRule = "![::1]:80".parse().unwrap();
    assert_eq!((rule.address_texts(), rule.ports()), (vec!["!::1".to_owned()], &[80..=80][..]));
    let rule: AccessRule = "!:".parse().unwrap();
    assert_eq!((rule.address_texts(), rule.ports()), (vec!["!".to_owned()], &[][..]));
    assert_eq!(AccessRule::private().denying().address_texts(), ["!private"]);
}

#[test]
fn private_covers_what_must_not_be_reached_from_outside_and_no_public_host() {
    let public_only = rules(&["!private"]);
    for address in [
        "0.0.0.0",
        "127.0.0.1",
        "10.1.1.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "255.255.255.255",
        "224.0.0.1",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[fc00::1]",
        "[fdff::1]",
        "[fe80::1]",
        "[ff02::1]",
        "192.88.99.1",
        "[2001::1]",
        "[2001:1ff:ffff::1]",
        "[3fff:fff:ffff::1]",
        "[5f00::1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b::]",
        "[2002:7f00:1::1]",
        "[2002:a00:1:ffff:ffff:ffff:ffff:ffff]",
        "[::ffff:0:127.0.0.1]",
        "[::ffff:0:10.0.0.1]",
    ] {
        assert!(!allows(&public_only, &format!("{address}:80")), "{address} is private");
    }
    for address in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "223.255.255.255",
        "[2606:4700:4700::1111]",
        "192.88.98.255",
        "192.88.100.0",
        "[2001:200::1]",
        "[3fff:1000::1]",
        "[5eff:ffff::1]",
        "[5f01::1]",
        "[64:ff9b::101:101]",
        "[64:ff9b::1:a9fe:a9fe]",
        "[2002:101:101::1]",
        "[2002:101:101::127.0.0.1]",
        "[::ffff:0:1.1.1.1]",
    ] {
        assert!(allows(&public_only, &format!("{address}:80")), "{address} is public");
    }
}

#[test]
fn another_way_to_a_denied_host_is_denied() {
    let not_ours = rules(&["!127.0.0.0/8", "!::1"]);
    for address in [
        "0.0.0.0",
        "[::]",
        "[::ffff:0.0.0.0]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::]",
        "[2002:7f00:1::1]",
        "[::ffff:0:127.0.0.1]",
    ] {
        assert!(!allows(&not_ours, &format!("{address}:22")), "{address} is the host itself");
    }
    for address in ["0.0.0.1", "[::2]", "[64:ff9b::126.0.0.1]", "[64:ff9b:1::127.0.0.1]", "[2003:7f00:1::1]"]
    {
        assert!(allows(&not_ours, &format!("{address}:22")), "{address} is another");
    }
    let one_port = rules(&["!127.0.0.1:22"]);
    assert!(!allows(&one_port, "0.0.0.0:22") && allows(&one_port, "0.0.0.0:23"));
    let v6 = rules(&["![::1]"]);
    assert!(!allows(&v6, "[::]:1") && allows(&v6, "0.0.0.0:1"), "each family has its own loopback");
    let unspecified = rules(&["!0.0.0.0", "!64:ff9b::/96"]);
    assert!(allows(&unspecified, "127.0.0.1:1") && allows(&unspecified, "10.0.0.1:1"), "not the reverse");
    assert!(!allows(&unspecified, "[64:ff9b::10.0.0.1]:1"));
}

#[test]
fn allow_rules_look_at_the_address_as_it_is() {
    let private = rules(&["127.0.0.0/8", "::1", "10.0.0.0/8"]);
    for address in ["0.0.0.0:1", "[::]:1", "[64:ff9b::10.0.0.1]:1", "[2002:a00:1::1]:1"] {
        assert!(!allows(&private, address), "{address}");
    }
    let translated = rules(&["64:ff9b::/96", "0.0.0.0", "!127.0.0.0/8", "!10.0.0.1:80"]);
    for address in ["[64:ff9b::8.8.8.8]:80", "[64:ff9b::10.0.0.1]:81", "[64:ff9b::10.0.0.2]:80"] {
        assert!(allows(&translated, address), "{address}");
    }
    for address in ["[64:ff9b::10.0.0.1]:80", "[64:ff9b::127.0.0.1]:81", "0.0.0.0:81", "8.8.8.8:80"] {
        assert!(!allows(&translated, address), "{address}");
    }
}

#[test]
fn deny_rules_win_and_a_list_of_them_allows_the_rest() {
    assert!(allows(&AccessRules::default(), "127.0.0.1:1"), "an empty list allows all");
    let mixed = rules(&["10.0.0.0/8", "!10.0.0.1", ":53"]);
    assert!(allows(&mixed, "10.0.0.2:1") && allows(&mixed, "8.8.8.8:53"));
    assert!(!allows(&mixed, "10.0.0.1:53") && !allows(&mixed, "8.8.8.8:54"));
    let deny_only = rules(&["!:25"]);
    assert!(allows(&deny_only, "10.0.0.1:24") && !allows(&deny_only, "10.0.0.1:25"));
    assert_eq!(rules(&["!private"]), [AccessRule::private().denying()].into_iter().collect());
}

#[test]
fn names_are_looked_up_only_where_addresses_decide() {
    for (list, expected) in [
        (&[][..], Verdict::Allowed),
        (&[":80"], Verdict::Allowed),
        (&[":443"], Verdict::Denied),
        (&["!:80"], Verdict::Denied),
        (&["!:443"], Verdict::Allowed),
        (&["10.0.0.0/8"], Verdict::NeedsLookup),
        (&["10.0.0.0/8:443"], Verdict::Denied),
        (&["10.0.0.0/8:443", ":80"], Verdict::Allowed),
        (&["!private"], Verdict::NeedsLookup),
        (&["!private:443"], Verdict::Allowed),
        (&["!private", ":443"], Verdict::Denied),
        (&["!private", ":80"], Verdict::NeedsLookup),
    ] {
        assert_eq!(judge(&rules(list), "example.test:80"), expected, "{list:?}");
    }
    assert_eq!(judge(&rules(&["10.0.0.0/8"]), "10.0.0.1:80"), Verdict::Allowed);
    assert_eq!(judge(&rules(&["10.0.0.0/8"]), "11.0.0.1:80"), Verdict::Denied);
}

#[test]
fn what_is_no_rule_is_explained() {
    let error = |text: &str| text.parse::<AccessRule>().unwrap_err();
    for text in ["", "!"] {
        assert_eq!(error(text), RuleError::Empty);
    }
    for text in
        ["example.com:80", "80", "10.0.0.0/33", "10.0.0.1-9.0.0.1", "1.2.3.4-300", "[::1:80", "::1-1.2.3.4"]
    {
        assert!(matches!(error(text), RuleError::Addresses(_)), "{text}: {:?}", error(text));
    }
    for text in ["10.0.0.1:65536", "10.0.0.1:80-79", "10.0.0.1:+80", "10.0.0.1:-", ":http"] {
        assert!(matches!(error(text), RuleError::Ports(_)), "{text}: {:?}", error(text));
    }
    assert_eq!(error("::1:80"), RuleError::Ambiguous("::1:80".into()));
}
