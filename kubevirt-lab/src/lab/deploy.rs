//! `deploy/` as it lies in the repository: the lab's controller runs on what a rack owner applies.

macro_rules! files {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("../../../deploy/", $file)))),*]
    };
}

pub(super) const FILES: &[(&str, &str)] = files![
    "crds/metal3.io_baremetalhosts.yaml",
    "crds/metal3.io_hardwaredata.yaml",
    "crds/storage.loft.sh_machineconfigtemplates.yaml",
    "crds/storage.loft.sh_nodeclaims.yaml",
    "crds/storage.loft.sh_nodeenvironments.yaml",
    "crds/storage.loft.sh_nodeprofiles.yaml",
    "crds/storage.loft.sh_nodeproviders.yaml",
    "crds/storage.loft.sh_nodetypes.yaml",
    "crds/storage.loft.sh_osimages.yaml",
    "crds/storage.loft.sh_sshkeys.yaml",
    "crds/storage.loft.sh_virtualclusterinstances.yaml",
    "rbac/00-namespace.yaml",
    "rbac/role.yaml",
    "rbac/binding.yaml",
];

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_of_deploy_is_applied() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
        let mut found: Vec<String> = ["crds", "rbac"]
            .iter()
            .flat_map(|dir| {
                std::fs::read_dir(format!("{root}/{dir}"))
                    .unwrap()
                    .map(move |f| (dir, f.unwrap()))
            })
            .map(|(dir, f)| format!("{dir}/{}", f.file_name().to_string_lossy()))
            .collect();
        let mut listed: Vec<String> = super::FILES.iter().map(|(f, _)| (*f).to_owned()).collect();
        found.sort();
        listed.sort();
        assert_eq!(found, listed);
    }
}
