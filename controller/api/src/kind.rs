//! What makes a struct a Kubernetes kind: object metadata, group, version, scope, and how it is written.

macro_rules! kind {
    (
        $(#[$doc:meta])*
        pub struct $name:ident($group:literal / $version:literal, $plural:literal, $scope:ident) {
            spec: $spec:ty,
            status: $status:ty,
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, ::serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            pub metadata: ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            pub spec: $spec,
            /// Absent until a controller has looked at the object.
            pub status: Option<$status>,
        }

        impl $name {
            pub const API_VERSION: &'static str = concat!($group, "/", $version);
            pub const KIND: &'static str = stringify!($name);

            pub fn new(name: &str, spec: $spec) -> Self {
                let metadata = ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    name: Some(name.to_owned()),
                    ..Default::default()
                };
                Self { metadata, spec, status: None }
            }

            /// The same object in a namespace.
            pub fn within(mut self, namespace: &str) -> Self {
                self.metadata.namespace = Some(namespace.to_owned());
                self
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeStruct;
                let fields = 4 + usize::from(self.status.is_some());
                let mut object = to.serialize_struct(stringify!($name), fields)?;
                object.serialize_field("apiVersion", Self::API_VERSION)?;
                object.serialize_field("kind", Self::KIND)?;
                object.serialize_field("metadata", &self.metadata)?;
                object.serialize_field("spec", &self.spec)?;
                match &self.status {
                    Some(status) => object.serialize_field("status", status)?,
                    None => object.skip_field("status")?,
                }
                object.end()
            }
        }

        impl ::kube_core::Resource for $name {
            type DynamicType = ();
            type Scope = ::kube_core::$scope;

            fn kind(_: &()) -> ::std::borrow::Cow<'_, str> {
                Self::KIND.into()
            }
            fn group(_: &()) -> ::std::borrow::Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> ::std::borrow::Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> ::std::borrow::Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }

        impl $crate::crds::Shape for $name {
            type Spec = $spec;
            type Status = $status;
            const NAMESPACED: bool = $crate::kind::namespaced(stringify!($scope));
        }
    };
}
pub(crate) use kind;

/// Whether kube's scope type of that name is the namespaced one.
pub(crate) const fn namespaced(scope: &str) -> bool {
    matches!(scope.as_bytes()[0], b'N')
}
