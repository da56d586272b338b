//! The intermediate symbol format of Volatility 3, version 6.2.0
//! (<https://github.com/volatilityfoundation/volatility3/tree/stable/volatility3/schemas>).

use crate::btf::{Kind, Member, Type};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// BTF does not say of what type a variable is; these are the ones that Volatility's plugins ask for by name, as the
/// kernel's sources declare them.
const VARIABLES: [(&str, &str); 23] = [
    ("init_task", "task_struct"),
    ("init_mm", "mm_struct"),
    ("init_files", "files_struct"),
    ("init_fs", "fs_struct"),
    ("init_cred", "cred"),
    ("init_net", "net"),
    ("init_nsproxy", "nsproxy"),
    ("init_pid_ns", "pid_namespace"),
    ("init_user_ns", "user_namespace"),
    ("modules", "list_head"),
    ("net_namespace_list", "list_head"),
    ("tty_drivers", "list_head"),
    ("super_blocks", "list_head"),
    ("mod_tree", "mod_tree_root"),
    ("iomem_resource", "resource"),
    ("ioport_resource", "resource"),
    ("prog_idr", "idr"),
    ("map_idr", "idr"),
    ("keyboard_notifier_list", "atomic_notifier_head"),
    ("socket_file_ops", "file_operations"),
    ("sockfs_dentry_operations", "dentry_operations"),
    ("ftrace_ops_list", "ftrace_ops"),
    ("prb", "printk_ringbuffer"),
];
/// Variables that are pointers to their type.
const POINTERS: [&str; 2] = ["ftrace_ops_list", "prb"];
/// How often a name is followed to another: aliases of aliases end.
const MOST_STEPS: usize = 64;

/// The symbols as Volatility reads them. The banner is the whole line of `/proc/version`, with its end.
pub fn document(types: &[Type], symbols: &BTreeMap<&str, u64>, banner: &[u8]) -> Value {
    let writer = Writer { types };
    let mut base = Map::new();
    base.insert("void".to_owned(), json!({"size": 0, "signed": false, "kind": "void", "endian": "little"}));
    base.insert("pointer".to_owned(), json!({"size": 8, "signed": false, "kind": "int", "endian": "little"}));
    let (mut user, mut enums): (Map<String, Value>, Map<String, Value>) = (Map::new(), Map::new());
    for (number, found) in types.iter().enumerate() {
        match &found.kind {
            Kind::Int { size, signed, boolean } => {
                let kind = match (boolean, found.name.ends_with("char")) {
                    (true, _) => "bool",
                    (_, true) => "char",
                    _ => "int",
                };
                base.insert(
                    found.name.clone(),
                    json!({"size": size, "signed": signed, "kind": kind, "endian": "little"}),
                );
            }
            Kind::Float(size) => {
                base.insert(
                    found.name.clone(),
                    json!({"size": size, "signed": true, "kind": "float", "endian": "little"}),
                );
            }
            Kind::Composite { union, size, members } => {
                let fields = writer.fields(members);
                let name = writer.name(number);
                // A name may stand for several layouts; the one that tells most is the one that is asked for.
                let known = user.get(&name).and_then(|t| t.get("fields")?.as_object()).map_or(0, Map::len);
                if !user.contains_key(&name) || fields.len() > known {
                    user.insert(
                        name,
                        json!({"kind": if *union { "union" } else { "struct" }, "size": size, "fields": fields}),
                    );
                }
            }
            Kind::Enumeration { size, values } => {
                let constants: Map<String, Value> =
                    values.iter().filter_map(|(name, value)| Some((name.clone(), integer(*value)?))).collect();
                let of = if *size == 8 { "long int" } else { "int" };
                enums.insert(writer.name(number), json!({"size": size, "base": of, "constants": constants}));
            }
            _ => {}
        }
    }
    for found in types {
        if let Kind::Forward { union } = found.kind
            && !user.contains_key(&found.name)
        {
            user.insert(
                found.name.clone(),
                json!({"kind": if union { "union" } else { "struct" }, "size": 0, "fields": {}}),
            );
        }
    }
    for name in ["int", "long int"] {
        base.entry(name).or_insert_with(
            || json!({"size": if name == "int" { 4 } else { 8 }, "signed": true, "kind": "int", "endian": "little"}),
        );
    }
    let mut symbols: Map<String, Value> =
        symbols.iter().map(|(name, address)| ((*name).to_owned(), json!({"address": address}))).collect();
    declare(&mut symbols, &user, banner);
    json!({
        "metadata": {
            "format": "6.2.0",
            "producer": {"name": "stasis-symbols", "version": env!("CARGO_PKG_VERSION")},
            "linux": {"types": [{"kind": "dwarf", "name": "vmlinux.btf"}], "symbols": [{"kind": "symtab", "name": "kallsyms.txt"}]},
        },
        "base_types": base,
        "user_types": user,
        "enums": enums,
        "symbols": symbols,
    })
}

/// Gives variables their types, where kernel and image have them.
fn declare(symbols: &mut Map<String, Value>, user: &Map<String, Value>, banner: &[u8]) {
    let mut set = |name: &str, value: Value| {
        if let Some(Value::Object(symbol)) = symbols.get_mut(name) {
            symbol.insert("type".to_owned(), value);
        }
    };
    for (name, kind) in VARIABLES.iter().filter(|(_, kind)| user.contains_key(*kind)) {
        let of = json!({"kind": "struct", "name": kind});
        set(name, if POINTERS.contains(name) { json!({"kind": "pointer", "subtype": of}) } else { of });
    }
    if user.contains_key("taint_flag") {
        let of = json!({"kind": "struct", "name": "taint_flag"});
        set("taint_flags", json!({"kind": "array", "count": 19, "subtype": of}));
    }
    let banner = [banner, b"\0"].concat();
    let text = json!({"kind": "array", "count": banner.len(), "subtype": {"kind": "base", "name": "char"}});
    set("linux_banner", text);
    if let Some(Value::Object(symbol)) = symbols.get_mut("linux_banner") {
        symbol.insert("constant_data".to_owned(), json!(STANDARD.encode(&banner)));
    }
}

fn integer(value: i128) -> Option<Value> {
    i64::try_from(value).map(Value::from).or_else(|_| u64::try_from(value).map(Value::from)).ok()
}

struct Writer<'a> {
    types: &'a [Type],
}

impl Writer<'_> {
    fn get(&self, number: u32) -> Option<&Type> {
        self.types.get(usize::try_from(number).ok()?)
    }

    /// Its name, or one made of its number.
    fn name(&self, number: usize) -> String {
        match self.types.get(number).map(|found| found.name.as_str()) {
            Some("") | None => format!("unnamed_{number:x}"),
            Some(name) => name.to_owned(),
        }
    }

    /// The type behind names and qualifiers.
    fn behind(&self, mut number: u32) -> u32 {
        for _ in 0..MOST_STEPS {
            match self.get(number).map(|found| &found.kind) {
                Some(Kind::Alias(next)) => number = *next,
                _ => return number,
            }
        }
        0
    }

    /// A reference to a type. What a pointer points to is named and not followed, so that this ends; arrays of arrays
    /// are followed as deep as they may be.
    fn reference(&self, number: u32, depth: usize) -> Value {
        let number = self.behind(number);
        let void = json!({"kind": "base", "name": "void"});
        let Some(found) = self.get(number).filter(|_| number != 0 && depth < MOST_STEPS) else { return void };
        let name = self.name(usize::try_from(number).unwrap_or_default());
        match &found.kind {
            Kind::Int { .. } | Kind::Float(_) => json!({"kind": "base", "name": found.name}),
            Kind::Pointer(to) => json!({"kind": "pointer", "subtype": self.reference(*to, depth + 1)}),
            Kind::Array { of, count } => {
                json!({"kind": "array", "count": count, "subtype": self.reference(*of, depth + 1)})
            }
            Kind::Composite { union, .. } | Kind::Forward { union } => {
                json!({"kind": if *union { "union" } else { "struct" }, "name": name})
            }
            Kind::Enumeration { .. } => json!({"kind": "enum", "name": name}),
            Kind::Function => json!({"kind": "function"}),
            Kind::Alias(_) | Kind::Other => void,
        }
    }

    fn fields(&self, members: &[Member]) -> Map<String, Value> {
        let fields = members.iter().enumerate().map(|(number, member)| {
            let name = if member.name.is_empty() { format!("unnamed_field_{number}") } else { member.name.clone() };
            (name, self.field(member))
        });
        fields.collect()
    }

    fn field(&self, member: &Member) -> Value {
        let of = self.reference(member.of, 0);
        if let Some(bits) = member.bits {
            let bytes = match self.get(self.behind(member.of)).map(|found| &found.kind) {
                Some(Kind::Int { size, .. } | Kind::Enumeration { size, .. }) => (*size).max(1),
                _ => 4,
            };
            let unit = bytes.saturating_mul(8);
            let start = member.bit_offset / unit * bytes;
            let position = member.bit_offset % unit;
            return json!({"offset": start, "type": {"kind": "bitfield", "bit_length": bits, "bit_position": position, "type": of}});
        }
        let offset = member.bit_offset / 8;
        if member.name.is_empty() {
            json!({"offset": offset, "type": of, "anonymous": true})
        } else {
            json!({"offset": offset, "type": of})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf;

    fn of(words: &[u32]) -> Value {
        let types = btf::types(&btf::tests::file(btf::tests::TEXTS, words)).expect("types");
        document(&types, &BTreeMap::from([("modules", 0x1000), ("linux_banner", 0x2000)]), b"Linux version 6.1\n")
    }

    #[test]
    fn structs_enumerations_and_variables_are_written() {
        let types = btf::types(&btf::tests::sample()).expect("types");
        let found =
            document(&types, &BTreeMap::from([("modules", 0x1000), ("linux_banner", 0x2000)]), b"Linux version 6.1\n");
        let list = &found["user_types"]["list_head"];
        assert_eq!(list["size"], 16);
        assert_eq!(
            list["fields"]["next"]["type"],
            json!({"kind": "pointer", "subtype": {"kind": "struct", "name": "list_head"}})
        );
        assert_eq!(
            list["fields"]["flags"],
            json!({"offset": 8, "type": {"kind": "bitfield", "bit_length": 3, "bit_position": 2, "type": {"kind": "base", "name": "int"}}})
        );
        assert_eq!(found["enums"]["color"]["constants"]["RED"], -1);
        assert_eq!(
            found["symbols"]["modules"],
            json!({"address": 0x1000, "type": {"kind": "struct", "name": "list_head"}})
        );
        assert_eq!(found["symbols"]["linux_banner"]["constant_data"], STANDARD.encode(b"Linux version 6.1\n\0"));
    }

    /// Types that name one another in a circle, or one that is not there.
    #[test]
    fn circles_end() {
        let found = of(&[0, 8 << 24, 2, 0, 8 << 24, 1, 5, 4 << 24 | 2, 8, 15, 1, 0, 20, 999, 0]);
        assert_eq!(found["user_types"]["list_head"]["fields"]["next"]["type"]["name"], "void");
        let pointers = of(&[0, 2 << 24, 1, 5, 4 << 24 | 1, 8, 15, 1, 0]);
        assert_eq!(pointers["user_types"]["list_head"]["fields"]["next"]["type"]["kind"], "pointer");
    }
}
