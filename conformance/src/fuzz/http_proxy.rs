pub fn http_proxy(_: &[u8]) {}
