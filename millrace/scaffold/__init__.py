"""What a service does not have to write by hand: files that follow from manifests (`millrace generate`), and
the first version of a service (`millrace new service`). Needs the extra `scaffold`."""
