//! A Node with field owners, as the API server keeps them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The API server's stand-in for the owner of fields that were set before owners were recorded.
const UNRECORDED: &str = "before-first-apply";

/// A field of a Node that has owners.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum FakeNodeField {
    /// A label.
    Label(String),
    /// An annotation.
    Annotation(String),
    /// A condition, by type.
    Condition(String),
}

/// A Node with the owners of its labels, annotations and conditions.
#[derive(Clone, Debug)]
pub struct FakeNode {
    name: String,
    uid: String,
    version: u64,
    /// `spec`, and the other parts of `status`.
    spec: Value,
    status: Value,
    fields: BTreeMap<FakeNodeField, OwnedField>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct OwnedField {
    value: Value,
    owners: BTreeSet<String>,
}

/// How a body is merged into the Node.
pub(super) enum PatchKind {
    /// Server-side apply.
    Apply { force: bool },
    /// A merge patch.
    Update,
}

/// A write that was refused with a conflict.
pub(super) struct RefusedWrite {
    pub(super) message: String,
    pub(super) causes: Vec<Value>,
}

impl FakeNode {
    /// A Node without labels, annotations and conditions.
    pub fn new(name: &str) -> FakeNode {
        FakeNode {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            version: 1,
            spec: json!({}),
            status: json!({}),
            fields: BTreeMap::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its resource version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Sets `spec`, and `status` without its conditions.
    pub fn set(&mut self, spec: Value, status: Value) {
        (self.spec, self.status) = (spec, status);
        self.version += 1;
    }

    /// Sets or removes a field as another manager does by an update, which makes it the only owner.
    pub fn update(&mut self, manager: &str, field: FakeNodeField, value: Option<Value>) {
        match value {
            Some(value) => {
                let owners = BTreeSet::from([manager.to_owned()]);
                self.fields.insert(field, OwnedField { value, owners });
            }
            None => drop(self.fields.remove(&field)),
        }
        self.version += 1;
    }

    /// Adds an owner of a field that exists, as an apply with the same value does.
    ///
    /// # Panics
    /// When the field does not exist.
    pub fn share(&mut self, manager: &str, field: &FakeNodeField) {
        let field = self.fields.get_mut(field).expect("the field exists");
        field.owners.insert(manager.to_owned());
        self.version += 1;
    }

    /// Forgets all owners, as a Node that was restored without `managedFields`.
    pub fn forget_owners(&mut self) {
        self.fields.values_mut().for_each(|field| field.owners.clear());
        self.version += 1;
    }

    /// The value of a field.
    pub fn value(&self, field: &FakeNodeField) -> Option<&Value> {
        self.fields.get(field).map(|field| &field.value)
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.value(&FakeNodeField::Label(key.to_owned()))?.as_str()
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.value(&FakeNodeField::Annotation(key.to_owned()))?.as_str()
    }

    /// A condition.
    pub fn condition(&self, kind: &str) -> Option<&Value> {
        self.value(&FakeNodeField::Condition(kind.to_owned()))
    }

    /// The labels, annotations and conditions that exist.
    pub fn fields(&self) -> impl Iterator<Item = &FakeNodeField> {
        self.fields.keys()
    }

    /// Removes a field from what was written over `before`. Without any other change nothing was written.
    pub(super) fn strip(&mut self, field: &FakeNodeField, before: &FakeNode) {
        self.fields.remove(field);
        if self.fields == before.fields {
            self.version = before.version;
        }
    }

    /// Restores a field of `before` that was removed. Without any other change nothing was written.
    pub(super) fn restore(&mut self, field: &FakeNodeField, before: &FakeNode) {
        if let Some(value) = before.fields.get(field) {
            self.fields.entry(field.clone()).or_insert_with(|| value.clone());
        }
        if self.fields == before.fields {
            self.version = before.version;
        }
    }

    /// Whether a label or an annotation whose key begins so is another one than before.
    pub(super) fn changes_of(&self, prefix: &str, before: &FakeNode) -> bool {
        let of = |node: &FakeNode| -> BTreeMap<FakeNodeField, OwnedField> {
            let is_of = |field: &FakeNodeField| match field {
                FakeNodeField::Label(key) | FakeNodeField::Annotation(key) => key.starts_with(prefix),
                FakeNodeField::Condition(_) => false,
            };
            node.fields
                .iter()
                .filter(|(field, _)| is_of(field))
                .map(|(a, b)| (a.clone(), b.clone()))
                .collect()
        };
        of(self) != of(before)
    }

    /// The Node as the API server returns it.
    pub fn to_json(&self) -> Value {
        let (mut labels, mut annotations, mut conditions) = (Map::new(), Map::new(), Vec::new());
        let mut managed: BTreeMap<(&str, bool), Value> = BTreeMap::new();
        for (field, owned) in &self.fields {
            let (part, list, key) = field.path();
            match field {
                FakeNodeField::Label(key) => drop(labels.insert(key.clone(), owned.value.clone())),
                FakeNodeField::Annotation(key) => drop(annotations.insert(key.clone(), owned.value.clone())),
                FakeNodeField::Condition(_) => conditions.push(owned.value.clone()),
            }
            for owner in &owned.owners {
                managed.entry((owner, field.is_status())).or_insert_with(|| json!({}))[part][list][&key] =
                    json!({});
            }
        }
        let managed = managed.into_iter().map(|((manager, is_status), fields)| {
            let subresource = if is_status { "status" } else { "" };
            json!({ "manager": manager, "subresource": subresource, "fieldsV1": fields })
        });
        let mut status = self.status.clone();
        status["conditions"] = json!(conditions);
        json!({
            "kind": "Node", "apiVersion": "v1", "spec": self.spec, "status": status,
            "metadata": {
                "name": self.name, "uid": self.uid, "resourceVersion": self.version.to_string(),
                "labels": labels, "annotations": annotations, "managedFields": managed.collect::<Vec<_>>(),
            },
        })
    }

    /// Writes metadata, or the status.
    pub(super) fn write(
        &mut self,
        kind: &PatchKind,
        status: bool,
        manager: &str,
        body: &Value,
    ) -> Result<(), RefusedWrite> {
        let metadata = &body["metadata"];
        let is_stale = |field: &str, now: &str| metadata[field].as_str().is_some_and(|value| value != now);
        if is_stale("uid", &self.uid) || is_stale("resourceVersion", &self.version.to_string()) {
            let message = "the object has been modified; please apply your changes to the latest version";
            return Err(RefusedWrite { message: message.to_owned(), causes: Vec::new() });
        }
        let before = self.fields.clone();
        let fields = match (status, kind) {
            (false, _) => metadata_fields(metadata),
            (true, PatchKind::Apply { .. }) => condition_fields(&body["status"]),
            // The API server lets labels and annotations be changed through the status.
            (true, PatchKind::Update) => {
                [condition_fields(&body["status"]), metadata_fields(metadata)].concat()
            }
        };
        match kind {
            PatchKind::Apply { force } => self.apply(fields, status, manager, *force)?,
            PatchKind::Update => {
                for (field, value) in fields {
                    let changed = self.value(&field) != value.as_ref();
                    match value {
                        Some(value) if changed => {
                            let owners = BTreeSet::from([manager.to_owned()]);
                            self.fields.insert(field, OwnedField { value, owners });
                        }
                        Some(_) => {}
                        None => drop(self.fields.remove(&field)),
                    }
                }
            }
        }
        self.version += u64::from(self.fields != before);
        Ok(())
    }

    fn apply(
        &mut self,
        fields: Vec<(FakeNodeField, Option<Value>)>,
        status: bool,
        manager: &str,
        force: bool,
    ) -> Result<(), RefusedWrite> {
        let mut now = self.fields.clone();
        if now.values().all(|field| field.owners.is_empty()) {
            for field in now.values_mut() {
                field.owners.insert(UNRECORDED.to_owned());
            }
        }
        let mut causes = Vec::new();
        let mut applied = BTreeSet::new();
        for (field, value) in fields {
            let value = value.unwrap_or_default();
            applied.insert(field.clone());
            let entry = now
                .entry(field.clone())
                .or_insert_with(|| OwnedField { value: value.clone(), owners: BTreeSet::new() });
            if entry.value != value {
                for owner in entry.owners.iter().filter(|owner| *owner != manager) {
                    causes.push(field.conflict_with(owner));
                }
                *entry = OwnedField { value, owners: BTreeSet::new() };
            }
            entry.owners.insert(manager.to_owned());
        }
        if !causes.is_empty() && !force {
            return Err(RefusedWrite { message: "Apply failed with conflicts".to_owned(), causes });
        }
        now.retain(|field, owned| {
            let is_given_up =
                field.is_status() == status && !applied.contains(field) && owned.owners.remove(manager);
            !is_given_up || !owned.owners.is_empty()
        });
        self.fields = now;
        Ok(())
    }
}

impl FakeNodeField {
    fn is_status(&self) -> bool {
        matches!(self, FakeNodeField::Condition(_))
    }

    /// Its path in FieldsV1.
    fn path(&self) -> (&'static str, &'static str, String) {
        match self {
            FakeNodeField::Label(key) => ("f:metadata", "f:labels", format!("f:{key}")),
            FakeNodeField::Annotation(key) => ("f:metadata", "f:annotations", format!("f:{key}")),
            FakeNodeField::Condition(kind) => {
                ("f:status", "f:conditions", format!("k:{}", json!({ "type": kind })))
            }
        }
    }

    fn conflict_with(&self, owner: &str) -> Value {
        let field = match self {
            FakeNodeField::Label(key) => format!(".metadata.labels.{key}"),
            FakeNodeField::Annotation(key) => format!(".metadata.annotations.{key}"),
            FakeNodeField::Condition(kind) => format!(".status.conditions[type=\"{kind}\"]"),
        };
        let message = format!("conflict with \"{owner}\" using v1");
        json!({ "reason": "FieldManagerConflict", "message": message, "field": field })
    }
}

/// The labels and annotations of a body; none as the value removes a key.
fn metadata_fields(metadata: &Value) -> Vec<(FakeNodeField, Option<Value>)> {
    let map = |name: &str, field: fn(String) -> FakeNodeField| {
        let pairs = metadata[name].as_object().into_iter().flatten();
        let fields =
            pairs.map(|(key, value)| (field(key.clone()), Some(value.clone()).filter(|v| !v.is_null())));
        fields.collect::<Vec<_>>()
    };
    [map("labels", FakeNodeField::Label), map("annotations", FakeNodeField::Annotation)].concat()
}

fn condition_fields(status: &Value) -> Vec<(FakeNodeField, Option<Value>)> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let fields = conditions.map(|condition| {
        let kind = condition["type"].as_str().unwrap_or_default().to_owned();
        let is_kept = condition.get("$patch").is_none();
        (FakeNodeField::Condition(kind), is_kept.then(|| condition.clone()))
    });
    fields.collect()
}
