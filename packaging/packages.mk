# Part of the Makefile: what is installed where, and the packages. `make install DESTDIR=… PREFIX=…` puts in place what the
# packages hold; the packages themselves call it. Nothing here starts, enables or creates anything on the host.

BINDIR      ?= $(PREFIX)/bin
SBINDIR     ?= $(PREFIX)/sbin
LIBDIR      ?= $(PREFIX)/lib
INCLUDEDIR  ?= $(PREFIX)/include
SHAREDIR    ?= $(PREFIX)/share
DOCDIR      ?= $(SHAREDIR)/doc
MANDIR      ?= $(SHAREDIR)/man
SYSCONFDIR  ?= /etc
UNITDIR     ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
PRESETDIR   ?= $(PREFIX)/lib/systemd/system-preset
CATALOGDIR  ?= $(PREFIX)/lib/systemd/catalog
BASHCOMPDIR ?= $(SHAREDIR)/bash-completion/completions
ZSHCOMPDIR  ?= $(SHAREDIR)/zsh/site-functions

INSTALL_DATA    := install -D -m 0644
INSTALL_PROGRAM := install -D -m 0755

# $(call install_all,FILES,DIRECTORY): by their own names.
install_all = $(foreach f,$(1),$(INSTALL_DATA) $(f) $(DESTDIR)$(2)/$(notdir $(f)) &&) :
# $(call install_as,FILES,DIRECTORY,SUFFIX): systemd wants files of these folders to end in SUFFIX.
install_as = $(foreach f,$(1),$(INSTALL_DATA) $(f) $(DESTDIR)$(2)/$(basename $(notdir $(f)))$(3) &&) :

.PHONY: install install-programs install-units install-config install-man install-completion install-library
install: install-programs install-units install-config install-man install-completion install-library

install-programs: $(PROGRAMS)
	$(INSTALL_PROGRAM) $(OUT)/raftd $(DESTDIR)$(SBINDIR)/raftd
	$(INSTALL_PROGRAM) $(OUT)/raft-bridge $(DESTDIR)$(SBINDIR)/raft-bridge
	$(INSTALL_PROGRAM) $(OUT)/raftctl $(DESTDIR)$(BINDIR)/raftctl

# The units name /usr/sbin and /usr/bin; installed elsewhere they name the place.
UNITS := $(wildcard systemd/*.service systemd/*.socket systemd/*.target)
install-units:
	$(call install_all,$(UNITS),$(UNITDIR))
	sed -i -e 's|/usr/sbin/raft|$(SBINDIR)/raft|g' -e 's|/usr/bin/raft|$(BINDIR)/raft|g' -e 's|/etc/raft/|$(SYSCONFDIR)/raft/|g' \
		$(patsubst systemd/%,$(DESTDIR)$(UNITDIR)/%,$(UNITS))
	$(call install_as,$(wildcard systemd/*.sysusers),$(SYSUSERSDIR),.conf)
	$(call install_as,$(wildcard systemd/*.tmpfiles),$(TMPFILESDIR),.conf)
	$(call install_all,$(wildcard systemd/*.preset),$(PRESETDIR))
	$(call install_all,$(wildcard systemd/*.catalog),$(CATALOGDIR))

# What the operator has changed stays; a package decides for itself, with an empty DESTDIR of its own.
install-config:
	$(INSTALL_DATA) packaging/raft.conf $(DESTDIR)$(DOCDIR)/raft-kv/raft.conf
	$(INSTALL_PROGRAM) packaging/examples/student-register/student-register $(DESTDIR)$(DOCDIR)/raft-kv/examples/student-register
	sed -i '1s|^#!/usr/bin/env python3$$|#!/usr/bin/python3|' $(DESTDIR)$(DOCDIR)/raft-kv/examples/student-register
	[ -e $(DESTDIR)$(SYSCONFDIR)/raft/raft.conf ] || $(INSTALL_DATA) packaging/raft.conf $(DESTDIR)$(SYSCONFDIR)/raft/raft.conf

install-man:
	$(foreach n,1 3 5 7 8,$(call install_all,$(wildcard packaging/man/*.$(n)),$(MANDIR)/man$(n)) &&) :

install-completion:
	$(INSTALL_DATA) packaging/completion/raftctl.bash $(DESTDIR)$(BASHCOMPDIR)/raftctl
	$(INSTALL_DATA) packaging/completion/raftctl.zsh $(DESTDIR)$(ZSHCOMPDIR)/_raftctl

# The header's include of ../entry.h holds where it is installed, too.
.PHONY: $(OUT)/libreplicator.pc
install-library: $(OUT)/$(SONAME) $(OUT)/libreplicator.pc
	$(INSTALL_PROGRAM) $(OUT)/$(SONAME) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libreplicator.so
	$(INSTALL_DATA) $(OUT)/libreplicator.pc $(DESTDIR)$(LIBDIR)/pkgconfig/libreplicator.pc
	$(INSTALL_DATA) daemon/replicator/replicator.h $(DESTDIR)$(INCLUDEDIR)/raft-kv/replicator/replicator.h
	$(INSTALL_DATA) daemon/entry.h $(DESTDIR)$(INCLUDEDIR)/raft-kv/entry.h
	$(INSTALL_DATA) packaging/examples/counter/counter.c $(DESTDIR)$(DOCDIR)/libreplicator-dev/examples/counter.c

# Packages are made from a copy of the tree as it is, changes included. PACKAGE_VERSION=0.1.1 gives it another version, to try
# an upgrade.
PACKAGE_VERSION ?= $(VERSION)
.PHONY: deb rpm
deb:
	packaging/build-deb --out $(BUILD)/deb --version $(PACKAGE_VERSION)
rpm:
	packaging/build-rpm --out $(BUILD)/rpm --version $(PACKAGE_VERSION)
