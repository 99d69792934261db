//! What expressions give, what they cost, and how rules of schemas read to users.

use serde_json::{Value, json};

use super::*;
use crate::field::FieldPath;
use crate::schema::{Definitions, Schema, Texts, read};

/// The value of an expression about an object without a schema, as text.
fn evaluate(source: &str, object: &Value) -> String {
    let environment = Environment::default().with("object", None);
    let program = match Program::compile(&environment, source, None) {
        Ok(program) => program,
        Err(error) => return format!("{error}").lines().next().unwrap_or_default().to_owned(),
    };
    let activation = Activation::default().with("object", Val::of_json(object, None));
    match program.evaluate(&activation, &mut Budget::new(PER_OBJECT)) {
        Ok(value) => convert::plain_text(&value),
        Err(error) => error.to_string(),
    }
}

#[test]
fn expressions_have_their_values() {
    let object = json!({"a": 1, "b": {"c": [1, 2, 3], "d": "text"}, "n": null, "f": 1.5});
    let table = [
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("object.a == 1 && object.b.d == 'text'", "true"),
        ("object.a == 1.0 && object.a < 1.5 && 2u > 1", "true"),
        ("has(object.b.c) && !has(object.x)", "true"),
        ("has(object.n) && object.n == null", "true"),
        ("object.x", "no such key: x"),
        ("object.x == 1 || true", "true"),
        ("true || object.x == 1", "true"),
        ("false || object.x == 1", "no such key: x"),
        ("object.b.c[1] + object.b['c'][2]", "5"),
        ("object.b.c[3]", "index out of bounds: 3"),
        ("2 in object.b.c && 'd' in object.b && !(7 in object.b.c)", "true"),
        ("object.b.c.all(x, x > 0) && object.b.c.exists(x, x == 2)", "true"),
        ("object.b.c.exists_one(x, x > 2)", "true"),
        ("object.b.c.map(x, x * 2) == [2, 4, 6]", "true"),
        ("object.b.c.filter(x, x != 2).size()", "2"),
        ("object.b.c.map(x, x > 1, x * 10).sum()", "50"),
        ("object.b.all(k, k in ['c', 'd'])", "true"),
        ("[1, 2] + [3] == object.b.c", "true"),
        ("{'x': 1}.x + {1: 2}[1]", "3"),
        ("object.a > 0 ? 'yes' : 'no'", "yes"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("1 + 'a'", "no such overload"),
        ("type(object.a) == int && type(object.f) == double", "true"),
        ("string(1.0) + string(true) + string(2u)", "1true2"),
        ("int('12') + int(1.9) + int(3u)", "16"),
        ("int('x')", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("dyn(1) == 'a'", "false"),
        ("cel.bind(x, object.a + 1, x * x)", "4"),
        ("object.?x.?y.orValue('none')", "none"),
        ("object.?b.?d.hasValue() && object.b.?d.value() == 'text'", "true"),
        ("object.?a.optMap(x, x + 1).orValue(0)", "2"),
        ("optional.none().or(optional.of(3)).value()", "3"),
        ("[?object.?x, ?object.?a].size()", "1"),
        ("math.greatest(1, 5, 3) + math.least([4, 2])", "7"),
        ("sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2], [2, 1, 1])", "true"),
        (
            "missing == 1",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'missing' (in container '')",
        ),
        (
            "object.frobnicate()",
            "compilation failed: ERROR: <input>:1:18: undeclared reference to 'frobnicate' (in container '')",
        ),
    ];
    for (source, expected) in table {
        let found = evaluate(source, &object);
        if expected.starts_with("compilation") {
            let (kind, why) = expected.split_once("undeclared").unwrap();
            assert!(found.starts_with(&kind[..30]) && found.ends_with(why), "{source}: {found}");
        } else {
            assert_eq!(found, expected, "{source}");
        }
    }
}

#[test]
fn functions_of_texts_and_lists_are_there() {
    let table = [
        ("'Hello'.startsWith('He') && 'Hello'.endsWith('lo') && 'Hello'.contains('ell')", "true"),
        ("'abc-1'.matches('^[a-z-]+[0-9]$')", "true"),
        ("'TacoCat'.lowerAscii() + 'x'.upperAscii()", "tacocatX"),
        ("'a,b,c'.split(',').join('-')", "a-b-c"),
        ("'a,b,c'.split(',', 2)[1]", "b,c"),
        ("'hello'.substring(1, 3) + 'hello'.substring(4)", "elo"),
        ("'hello'.substring(9)", "index out of range: 9"),
        ("'hello'.indexOf('l') + 'hello'.lastIndexOf('l')", "5"),
        ("'  x '.trim() + 'abc'.charAt(1) + 'abc'.reverse()", "xbcba"),
        ("'aaa'.replace('a', 'b', 2)", "bba"),
        ("'abc 12 34'.find('[0-9]+') + 'a1b2'.findAll('[0-9]').join('')", "1212"),
        ("size('größe')", "5"),
        ("'%s has %d of %.2f%% %s'.format(['x', 3, 1.5, ['a', 1]])", "x has 3 of 1.50% [a, 1]"),
        ("'%x %X %b %o %e'.format([255, 'hi', 5, 8, 1234.5])", "ff 6869 101 10 1.234500e+03"),
        ("'%d'.format(['x'])", "could not convert argument of type string with %d in format string"),
        ("[1, 2, 2].isSorted() && ![2, 1].isSorted()", "true"),
        (
            "[3, 1, 2].sort().map(x, string(x)).join('') + string([3, 1].min()) + string([3, 1].max())",
            "12313",
        ),
        ("[[1, 2], [3]].flatten().sum() + [1, 2, 1].distinct().size()", "8"),
        ("[1, 2, 3].slice(1, 3).sum() + [5, 6].indexOf(6) + [5, 5].lastIndexOf(5)", "7"),
        ("base64.encode(b'ab') + string(base64.decode('YWI='))", "YWI=ab"),
        ("[].min()", "min called on empty list"),
    ];
    for (source, expected) in table {
        assert_eq!(evaluate(source, &Value::Null), expected, "{source}");
    }
}

#[test]
fn times_quantities_addresses_and_formats_are_there() {
    let table = [
        ("duration('1h30m') > duration('89m')", "true"),
        ("timestamp('2024-02-29T12:00:00Z') + duration('24h') == timestamp('2024-03-01T12:00:00Z')", "true"),
        ("timestamp('2024-02-29T23:30:00.250Z').getFullYear()", "2024"),
        (
            "timestamp('2024-02-29T23:30:00Z').getDayOfWeek() * 100 + timestamp('2024-02-29T23:30:00Z').getDayOfYear()",
            "459",
        ),
        ("timestamp('2024-02-29T23:30:00Z').getDate('+01:00')", "1"),
        (
            "string(timestamp('2024-01-01T00:00:00.5+01:00')) + string(duration('90500ms'))",
            "2023-12-31T23:00:00.5Z90.5s",
        ),
        ("(timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z')).getHours()", "24"),
        ("timestamp('2023-02-29T00:00:00Z')", "invalid timestamp"),
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('0.1') == quantity('100m')", "true"),
        ("quantity('1500m').add(quantity('500m')).asInteger() + quantity('2').sub(1).asInteger()", "3"),
        ("quantity('200k').compareTo(quantity('0.2M')) + quantity('-1').sign()", "-1"),
        ("isQuantity('1e3') && !isQuantity('1x') && !isQuantity('')", "true"),
        ("quantity('1.5').isInteger()", "false"),
        ("url('https://u@h.io:80/a b?x=1'.replace(' ', '')).getHostname()", "h.io"),
        (
            "url('https://[::1]:80/p?x=1&x=2&y=a%20b').getPort() + url('http://a/b?k=v').getQuery()['k'][0]",
            "80v",
        ),
        ("url('https://h/a').getScheme() + url('https://h/a').getEscapedPath()", "https/a"),
        ("isURL('/a') && !isURL('a b') && !isURL('x')", "true"),
        (
            "ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('10.0.0.01') && !isIP('::ffff:1.2.3.4')",
            "true",
        ),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
            "true",
        ),
        (
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/8').masked().ip() == ip('10.0.0.0')",
            "true",
        ),
        ("cidr('::/0').prefixLength() + cidr('1.2.3.4/0').prefixLength()", "0"),
        ("isCIDR('10.0.0.0/33') || isCIDR('10.0.0.0/08') || ip.isCanonical('::0')", "false"),
        (
            "ip('127.0.0.1').isLoopback() && ip('224.0.0.1').isLinkLocalMulticast() && ip('8.8.8.8').isGlobalUnicast()",
            "true",
        ),
        (
            "!format.dns1123Label().validate('my-label').hasValue() && format.dns1123Label().validate('My').hasValue()",
            "true",
        ),
        ("format.named('qualifiedName').value().validate('a.b/c').hasValue()", "false"),
        (
            "format.dns1123LabelPrefix().validate('a-').hasValue() || format.uuid().validate('x').hasValue()",
            "true",
        ),
    ];
    for (source, expected) in table {
        assert_eq!(evaluate(source, &Value::Null), expected, "{source}");
    }
}

#[test]
fn what_costs_too_much_is_stopped() {
    let list: Vec<u32> = (0..2000).collect();
    let object = json!({ "l": list, "t": "x".repeat(5000) });
    let limit = EvalError::LimitExceeded.to_string();
    for source in [
        "object.l.all(x, object.l.all(y, object.l.exists(z, z == 1999)))",
        "object.l.map(x, object.t + object.t).size() > 0 && object.l.all(x, object.l.map(y, object.t).size() > 0)",
        "object.l.all(x, object.l == object.l)",
        "object.l.all(x, !object.t.matches('(x+x+)+y'))",
        "object.l.map(x, object.t).join(object.t).size() > 0",
        "object.l.exists(x, object.l.all(y, true) && false)",
        "cel.bind(t, object.t + object.t, object.l.all(x, t != ''))",
        "cel.bind(t, [object.t + object.t], object.l.all(x, t[0] != '' && t.all(y, y != '')))",
        "object.l.all(x, !object.t.matches('[a-z]{500}' + string(x)))",
        "cel.bind(a, [1, 2], cel.bind(b, [a, a, a, a, a, a, a, a], cel.bind(c, [b, b, b, b, b, b, b, b], \
         cel.bind(d, [c, c, c, c, c, c, c, c], cel.bind(e, [d, d, d, d, d, d, d, d], cel.bind(f, [e, e, e, e, e, e], \
         cel.bind(g, [f, f, f, f], cel.bind(h, [g, g, g, g, g, g, g, g], '%s'.format([h]) == ''))))))))",
    ] {
        assert_eq!(evaluate(source, &object), limit, "{source}");
    }
    assert_eq!(evaluate("object.l.map(x, x * 2).filter(x, x > 5).size()", &object), "1997");
    assert!(evaluate(&"(".repeat(5000), &object).starts_with("compilation failed"));
    assert!(evaluate(&format!("true{}", " && true".repeat(9000)), &object).starts_with("compilation failed"));
}

fn told(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = read(&FieldPath::root(), schema, &mut Texts::default()).unwrap();
    let rules = match Rules::compile(&schema, &FieldPath::of("s")) {
        Ok(rules) => rules,
        Err(errors) => return errors.iter().map(ToString::to_string).collect(),
    };
    let definitions = Definitions::default();
    let errors = rules.validate(definitions.view_of(&schema), value, old, &FieldPath::root());
    errors.iter().map(ToString::to_string).collect()
}

/// A schema with a spec of these fields and rules.
fn spec(properties: &Value, rules: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties,
        "x-kubernetes-validations": rules}}})
}

#[test]
fn rules_as_they_are_in_the_wild_hold_or_not() {
    let replicas = json!({
        "replicas": {"type": "integer"}, "minReplicas": {"type": "integer"}, "maxReplicas": {"type": "integer"},
    });
    let rule = json!([{"rule": "self.minReplicas <= self.replicas && self.replicas <= self.maxReplicas",
        "message": "replicas should be in the range minReplicas..maxReplicas."}]);
    let schema = spec(&replicas, &rule);
    let value = |replicas: i32| json!({"spec": {"minReplicas": 1, "replicas": replicas, "maxReplicas": 3}});
    assert!(told(&schema, &value(2), None).is_empty());
    assert_eq!(
        told(&schema, &value(5), None),
        [r#"spec: Invalid value: "object": replicas should be in the range minReplicas..maxReplicas."#]
    );
    let gateway = json!({
        "listeners": {"type": "array", "items": {"type": "object", "properties": {
            "name": {"type": "string"}, "port": {"type": "integer"}, "protocol": {"type": "string"},
            "hostname": {"type": "string"}, "tls": {"type": "object", "properties": {"mode": {"type": "string"}}}}}},
    });
    let rules = json!([
        {"rule": "self.listeners.all(l1, self.listeners.exists_one(l2, l1.name == l2.name))",
         "message": "Listener name must be unique within the Gateway"},
        {"rule": "self.listeners.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) : true)",
         "message": "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']"},
        {"rule": "self.listeners.all(l, !has(l.hostname) || !isIP(l.hostname))",
         "messageExpression": "'hostname of ' + self.listeners[0].name + ' is an address'", "fieldPath": ".listeners",
         "reason": "FieldValueForbidden"},
    ]);
    let value = json!({"spec": {"listeners": [
        {"name": "a", "port": 80, "protocol": "HTTP", "tls": {}, "hostname": "10.0.0.1"}, {"name": "a", "port": 81, "protocol": "TLS"},
    ]}});
    assert_eq!(
        told(&spec(&gateway, &rules), &value, None),
        [
            r#"spec: Invalid value: "object": Listener name must be unique within the Gateway"#,
            r#"spec: Invalid value: "object": tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']"#,
            "spec.listeners: Forbidden: hostname of a is an address",
        ]
    );
    let typed = json!({
        "port": {"x-kubernetes-int-or-string": true}, "when": {"type": "string", "format": "date-time"},
        "wait": {"type": "string", "format": "duration"}, "weird-name": {"type": "string"}, "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "level": {"type": "number"},
    });
    let rules = json!([
        {"rule": "type(self.port) == int ? self.port > 0 : self.port.matches('^[0-9]+%$')"},
        {"rule": "self.when > timestamp('2020-01-01T00:00:00Z')"},
        {"rule": "self.wait <= duration('1h')"},
        {"rule": "self.weird__dash__name == self.__namespace__"},
        {"rule": "self.labels.all(k, k.startsWith('a/') && self.labels[k] != '')"},
        {"rule": "self.level >= 1.0"},
    ]);
    let good = json!({"spec": {"port": "5%", "when": "2024-01-01T00:00:00Z", "wait": "30m", "weird-name": "x",
        "namespace": "x", "labels": {"a/b": "c"}, "level": 1}});
    assert!(told(&spec(&typed, &rules), &good, None).is_empty());
    let bad = json!({"spec": {"port": 0, "when": "2019-01-01T00:00:00Z", "wait": "61m", "weird-name": "x",
        "namespace": "y", "labels": {"b": "c"}, "level": 0.5}});
    assert_eq!(told(&spec(&typed, &rules), &bad, None).len(), 6);
}

#[test]
fn rules_about_changes_need_something_that_changed() {
    let fields = json!({"a": {"type": "string", "x-kubernetes-validations": [
        {"rule": "self == oldSelf", "message": "a is immutable"}]}});
    let schema = spec(
        &fields,
        &json!([{"rule": "!has(oldSelf.a) || has(self.a)", "message": "a is required once set"}]),
    );
    let (with, other, without) =
        (json!({"spec": {"a": "x"}}), json!({"spec": {"a": "y"}}), json!({"spec": {}}));
    assert!(told(&schema, &with, None).is_empty());
    assert!(told(&schema, &with, Some(&with)).is_empty());
    assert!(told(&schema, &with, Some(&without)).is_empty());
    assert_eq!(told(&schema, &other, Some(&with)), [r#"spec.a: Invalid value: "y": a is immutable"#]);
    assert_eq!(
        told(&schema, &without, Some(&with)),
        [r#"spec: Invalid value: "object": a is required once set"#]
    );
    let optional = spec(
        &json!({"a": {"type": "integer"}}),
        &json!([
        {"rule": "oldSelf.hasValue() ? self.a >= oldSelf.value().a : self.a == 0", "optionalOldSelf": true}]),
    );
    let value = |a: i32| json!({"spec": {"a": a}});
    assert!(told(&optional, &value(0), None).is_empty());
    assert_eq!(told(&optional, &value(1), None).len(), 1);
    assert!(told(&optional, &value(5), Some(&value(4))).is_empty());
    assert_eq!(told(&optional, &value(3), Some(&value(4))).len(), 1);
}

#[test]
fn what_an_update_left_as_it_was_is_excused() {
    let schema = spec(
        &json!({"a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}, "b": {"type": "integer"}}),
        &json!([]),
    );
    let value = |a: i32, b: i32| json!({"spec": {"a": a, "b": b}});
    assert_eq!(told(&schema, &value(-1, 1), None), ["spec.a: Invalid value: -1: failed rule: self > 0"]);
    assert!(told(&schema, &value(-1, 2), Some(&value(-1, 1))).is_empty());
    assert_eq!(told(&schema, &value(-2, 1), Some(&value(-1, 1))).len(), 1);
}

#[test]
fn rules_that_cannot_be_compiled_are_told() {
    let fields = json!({"a": {"type": "string"}, "l": {"type": "array", "items": {"type": "string",
        "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}});
    let rules = json!([
        {"rule": "self.b == 'x'"},
        {"rule": "self.a + 'x'"},
        {"rule": "self.a =="},
        {"rule": "self.a.b == 'x'"},
        {"rule": "self.a == 'x'", "messageExpression": "1 + 1"},
        {"rule": "self.a == 'x'", "optionalOldSelf": true},
    ]);
    let errors = told(&spec(&fields, &rules), &json!({}), None);
    let starts = [
        (0, "rule", "compilation failed: ERROR: <input>:1:5: undefined field 'b'"),
        (1, "rule", "cel expression must evaluate to a bool"),
        (2, "rule", "compilation failed: ERROR: "),
        (3, "rule", "compilation failed: ERROR: <input>:1:7: type 'string' does not support field selection"),
        (4, "messageExpression", "messageExpression must evaluate to a string"),
        (5, "optionalOldSelf", "may not be set if oldSelf is not used in rule"),
    ];
    for (error, (index, field, why)) in errors.iter().zip(starts) {
        let at = format!("s.properties[spec].x-kubernetes-validations[{index}].{field}: Invalid value: ");
        assert!(error.starts_with(&at) && error.contains(why), "{error}");
    }
    let list = "s.properties[spec].properties[l].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": \
                oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].properties[l]";
    assert_eq!(errors.last().map(String::as_str), Some(list));
    assert_eq!(errors.len(), 7, "{errors:#?}");
}

#[test]
fn policies_bring_variables_of_their_own() {
    let environment = ["object", "oldObject", "request", "params", "variables"]
        .into_iter()
        .fold(Environment::default(), |environment, name| environment.with(name, None));
    let object = json!({"spec": {"replicas": 7}});
    let (request, params) = (json!({"operation": "CREATE"}), json!({"maxReplicas": 5}));
    let limit = Program::compile(&environment, "params.maxReplicas * 1", None).unwrap();
    let source =
        "request.operation == 'CREATE' && oldObject == null && object.spec.replicas <= variables.limit";
    let program = Program::compile(&environment, source, Some("bool")).unwrap();
    assert!(program.names("variables") && !program.names("params"));
    let base = Activation::default()
        .with("object", Val::of_json(&object, None))
        .with("oldObject", Val::Null)
        .with("request", Val::of_json(&request, None))
        .with("params", Val::of_json(&params, None));
    let mut budget = Budget::new(PER_OBJECT);
    let limit = limit.evaluate(&base, &mut budget).unwrap();
    let activation = base.with("variables", Val::named([("limit".to_owned(), limit)]));
    assert!(matches!(program.evaluate(&activation, &mut budget), Ok(Val::Bool(false))));
    assert!(budget.left() < PER_OBJECT && budget.left() > PER_OBJECT - 100);
}

proptest::proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(source in r"[a-z0-9 .()\[\]{}?:&|!<>='+*/%,-]{0,40}") {
        let found = evaluate(&source, &json!({"a": [1, "x", {"b": null}]}));
        proptest::prop_assert!(found.len() < 10_000);
    }

    #[test]
    fn numbers_compare_as_they_do_anywhere(left in -50i64..50, right in -50i64..50) {
        let source = format!("{left} < {right} && double({left}) < {right} || {left} - {right} >= 0");
        proptest::prop_assert_eq!(evaluate(&source, &Value::Null), "true");
    }
}

#[test]
fn an_empty_schema_has_no_rules() {
    assert!(Rules::compile(&Schema::default(), &FieldPath::root()).unwrap().is_empty());
}

/// What is too deep is refused before the stack ends, and what is not is evaluated within it.
#[test]
fn depth_is_bounded() {
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let table = [
        ("(", "1", ")"),
        ("!(", "true", ")"),
        ("-(", "1", ")"),
        ("[", "1", "]"),
        ("{'a': ", "1", "}"),
        ("true ? ", "1", " : 2"),
        ("true ? 1 : ", "2", ""),
        ("size([", "1", "])"),
        ("object", "", ".a"),
        ("object", "", "[0]"),
        ("", "1", " + 1"),
        ("", "'a'", " == 'a'"),
        ("", "'a'", ".trim()"),
        ("[1].all(x, ", "true", ")"),
        ("[1].map(x, ", "true", ")"),
        ("cel.bind(x, 1, ", "x", ")"),
        ("optional.of(1).optMap(x, ", "x", ")"),
        ("((((", "1", ""),
    ];
    for (open, inner, close) in table {
        for depth in [1, 5, 20, 40, 60, 64, 100, 20_000 / (open.len() + close.len())] {
            let open = if open == "object" { "" } else { open };
            let inner = if open.is_empty() && inner.is_empty() { "object" } else { inner };
            let source = nested(open, inner, close, depth);
            let found = evaluate(&source, &json!({"a": 1}));
            assert!(
                depth < 65 || found.contains("compilation failed"),
                "{depth} {open} {inner} {close}: {found}"
            );
        }
    }
    let long = format!("true{}", " && true || false".repeat(2000));
    assert_eq!(evaluate(&long, &Value::Null), "true");
    assert_eq!(evaluate(&format!("{}true", "!".repeat(9001)), &Value::Null), "false");
}

#[test]
fn the_grammar_is_that_of_cel() {
    let table = [
        ("-9223372036854775808 + 0", "-9223372036854775808"),
        ("9223372036854775808", "compilation failed: ERROR: <input>:1:1: invalid int literal"),
        ("1 + 2 * 3 == 7 && 10 - 2 - 3 == 5 && 2 * -3 == -6", "true"),
        ("!true || !false && !!true", "true"),
        ("1 < 2 == true", "true"),
        ("true ? (false ? 1 : 2) : 3", "2"),
        ("[1, 2,].size() + {'a': 1,}.size()", "3"),
        ("{'in': 1}.in + {'a-b': 2}.`a-b`", "3"),
        (".object == null // nothing\n", "true"),
        ("[1, 2].all(i, v, v == i + 1) && {'a': 1}.exists(k, v, k == 'a' && v == 1)", "true"),
        ("[3, 4].transformList(i, v, i > 0, v * 2).sum()", "8"),
        ("has(object)", "compilation failed: ERROR: <input>:1:1: invalid argument to has() macro"),
        ("[1].all(1, true)", "compilation failed: ERROR: <input>:1:9: argument must be a simple name"),
        ("if", "compilation failed: ERROR: <input>:1:1: Syntax error: reserved identifier: if"),
        ("1 +", "compilation failed: ERROR: <input>:1:4: Syntax error: unexpected '<EOF>'"),
        ("1 2", "compilation failed: ERROR: <input>:1:3: Syntax error: unexpected '2'"),
        ("a{b: 1}", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'a' (in container '')"),
        ("1{b: 1}", "compilation failed: ERROR: <input>:1:2: Syntax error: unexpected '{'"),
        ("'größe' == 'gr\\u00f6\\u00dfe'", "true"),
    ];
    for (source, expected) in table {
        let source = source.replace("\\n", "\n");
        assert_eq!(evaluate(&source, &Value::Null), expected, "{source}");
    }
}
