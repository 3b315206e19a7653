// A module of its own, so that ./... does not find Go files in node_modules.
module github.com/nametap/nametap/deploy/grafana/preview

go 1.26
