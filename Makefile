# raft-kv: one makefile for everything. `make help` lists what it can do.
#
# Objects and programs go to $(BUILD) only. CC, CFLAGS, CPPFLAGS, LDFLAGS are appended to, never overridden.

CC       ?= gcc
BUILD    ?= build
PREFIX   ?= /usr/local
SAN      ?=
# Packages are built with compilers that nobody has seen yet, and set it empty.
WERROR   ?= -Werror
PKGS     := libzmq libevent libsystemd libxxhash
PKGCONF  ?= pkg-config

# A sanitizer build has objects of its own.
comma    := ,
ifneq ($(SAN),)
OUT      := $(BUILD)/san-$(subst $(comma),-,$(SAN))
SANFLAGS := -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
else
OUT      := $(BUILD)
SANFLAGS :=
endif
VERSION  := 0.2.0
# Another number when replicator.h breaks what it promises to programs.
SONAME   := libreplicator.so.0

WARN := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum -Wvla \
        -Wundef -Wpointer-arith -Wwrite-strings $(WERROR)
ALL_CPPFLAGS = -I. -I$(OUT)/generated -D_GNU_SOURCE -DRAFT_KV_VERSION='"$(VERSION)"' $(PKG_CFLAGS) $(CPPFLAGS)
ALL_CFLAGS   = -std=gnu11 -O2 -g -fPIC -fvisibility=hidden -ffile-prefix-map=$(CURDIR)=. $(WARN) $(SANFLAGS) $(CFLAGS)
ALL_LDFLAGS  = $(SANFLAGS) $(LDFLAGS)

# Asked for once a run and only when something is compiled.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell $(PKGCONF) --cflags $(PKGS)))$(PKG_CFLAGS)
pkg_libs   = $(shell $(PKGCONF) --libs $(1))
XXH_LIBS   = $(eval XXH_LIBS := $$(call pkg_libs,libxxhash))$(XXH_LIBS)
ZMQ_LIBS   = $(eval ZMQ_LIBS := $$(call pkg_libs,libzmq))$(ZMQ_LIBS)
EVENT_LIBS = $(eval EVENT_LIBS := $$(call pkg_libs,libevent_core))$(EVENT_LIBS)
HTTP_LIBS  = $(eval HTTP_LIBS := $$(call pkg_libs,libevent_extra))$(HTTP_LIBS)
SD_LIBS    = $(eval SD_LIBS := $$(call pkg_libs,libsystemd))$(SD_LIBS)
CMOCKA_LIBS = $(eval CMOCKA_LIBS := $$(call pkg_libs,cmocka))$(CMOCKA_LIBS)
INI_LIBS   = -liniparser # Debian 12 ships no .pc file for it

# V=1 shows the commands.
ifeq ($(V),)
Q   := @
say  = @echo '  $(1)'
else
Q   :=
say  = @:
endif

# What is built ----------------------------------------------------------------------------------------

KV         := $(wildcard kv/*.c)
RAFT       := $(wildcard daemon/raft/*.c)
STORAGE    := $(wildcard daemon/storage/*.c)
TRANSPORT  := $(wildcard daemon/transport/*.c)
REPLICATOR := $(wildcard daemon/replicator/*.c)
CONFIG     := $(wildcard daemon/config/*.c)
SERVICE    := $(wildcard daemon/service/*.c)
METRICS    := $(wildcard daemon/metrics/*.c)
RAFTD      := $(wildcard daemon/*.c)
BRIDGE     := $(filter-out bridge/raftctl%.c bridge/compare.c bridge/rolling.c,$(wildcard bridge/*.c))
RAFTCTL    := $(wildcard bridge/raftctl*.c) bridge/compare.c bridge/rolling.c
SIM        := $(wildcard tests/sim/*.c)
BENCH      := $(wildcard tests/bench/*.c)
LINEARIZABILITY := $(filter-out %/main.c,$(wildcard tests/linearizability/*.c))
FUZZ       := $(wildcard tests/fuzz/fuzz_*.c)
UNIT       := $(wildcard tests/unit/test_*.c)
UNIT_LIB   := $(filter-out $(UNIT),$(wildcard tests/unit/*.c))
# What unit tests use of the bridge: its pure parts.
BRIDGE_PURE := $(wildcard bridge/line*.c) bridge/window.c bridge/compare.c bridge/rolling.c

obj = $(patsubst %.c,$(OUT)/obj/%.o,$(1))

PROGRAMS := $(addprefix $(OUT)/,raftd raft-bridge raftctl)
LIBS     := $(foreach l,kv replicator raft storage transport config service metrics,$(OUT)/lib$(l).a)
TESTS    := $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(UNIT))

.PHONY: all
all: programs $(OUT)/raft-linearizability $(if $(BENCH),$(OUT)/raft-bench) $(if $(SIM),$(OUT)/raft-sim)

# What is installed.
.PHONY: programs
programs: $(PROGRAMS) $(OUT)/$(SONAME)

# The commands for a fresh machine install what is missing before the first file is compiled.
ifneq ($(filter check,$(MAKECMDGOALS)),)
DEPS := deps
else ifneq ($(filter run bench,$(MAKECMDGOALS)),)
DEPS := build-deps
endif

$(OUT)/obj/%.o: %.c Makefile | $(DEPS)
	@mkdir -p $(@D)
	$(call say,CC $<)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# raftctl init writes the sample configuration: as a C string.
$(OUT)/generated/raft_conf.inc: packaging/raft.conf
	@mkdir -p $(@D)
	$(Q)sed -e 's/[\\"]/\\&/g' -e 's/^/"/' -e 's/$$/\\n"/' $< >$@
$(OUT)/obj/bridge/raftctl_init.o: $(OUT)/generated/raft_conf.inc

define archive
$(OUT)/lib$(1).a: $(call obj,$(2))
	@rm -f $$@
	@$(AR) rcs $$@ $$^
endef
$(eval $(call archive,kv,$(KV)))
$(eval $(call archive,raft,$(RAFT)))
$(eval $(call archive,storage,$(STORAGE)))
$(eval $(call archive,transport,$(TRANSPORT)))
$(eval $(call archive,replicator,$(REPLICATOR)))
$(eval $(call archive,config,$(CONFIG)))
$(eval $(call archive,service,$(SERVICE)))
$(eval $(call archive,metrics,$(METRICS)))

REPLICATOR_LIBS := $(foreach l,replicator raft storage transport config,$(OUT)/lib$(l).a)

# What others embed: the same objects as in raftd, and only what replicator.h declares is seen from outside.
$(OUT)/$(SONAME): $(call obj,$(REPLICATOR) $(RAFT) $(STORAGE) $(TRANSPORT) $(CONFIG)) daemon/replicator/libreplicator.map
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=daemon/replicator/libreplicator.map \
		$(if $(SAN),,-Wl,-z,defs) $(filter %.o,$^) $(ZMQ_LIBS) $(INI_LIBS) $(XXH_LIBS) -lpthread -o $@
$(OUT)/libreplicator.pc: packaging/libreplicator.pc.in Makefile
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' $< >$@

$(OUT)/raftd: $(call obj,$(RAFTD)) $(REPLICATOR_LIBS) $(OUT)/libservice.a $(OUT)/libmetrics.a $(OUT)/libkv.a
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(ZMQ_LIBS) $(HTTP_LIBS) $(EVENT_LIBS) $(SD_LIBS) $(INI_LIBS) $(XXH_LIBS) -lpthread -o $@
$(OUT)/raft-bridge: $(call obj,$(BRIDGE)) $(OUT)/libtransport.a $(OUT)/libconfig.a $(OUT)/libservice.a $(OUT)/libmetrics.a $(OUT)/libkv.a
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(ZMQ_LIBS) $(HTTP_LIBS) $(EVENT_LIBS) $(SD_LIBS) $(INI_LIBS) $(XXH_LIBS) -lpthread -o $@
# raftctl reads and makes data directories of stopped members, hence the storage and the codec of configurations.
$(OUT)/raftctl: $(call obj,$(RAFTCTL)) $(call obj,$(filter bridge/line%.c,$(BRIDGE))) $(OUT)/libstorage.a \
		$(OUT)/libreplicator.a $(OUT)/libraft.a $(OUT)/libtransport.a $(OUT)/libconfig.a $(OUT)/libkv.a
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(ZMQ_LIBS) $(INI_LIBS) $(XXH_LIBS) -lpthread -o $@
$(OUT)/raft-bench: $(call obj,$(BENCH)) $(OUT)/libkv.a
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(EVENT_LIBS) $(XXH_LIBS) -lm -lpthread -o $@
SIM_PARTS = $(call obj,$(SIM) $(LINEARIZABILITY) daemon/answers.c) $(REPLICATOR_LIBS) $(OUT)/libkv.a
$(OUT)/raft-sim: $(SIM_PARTS)
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(ZMQ_LIBS) $(INI_LIBS) $(XXH_LIBS) -lpthread -o $@
$(OUT)/raft-linearizability: $(call obj,$(LINEARIZABILITY) tests/linearizability/main.c)
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(XXH_LIBS) -o $@
# In an archive, or every unit test would hold it.
$(eval $(call archive,linearizability,$(LINEARIZABILITY)))
$(OUT)/tests/%: $(OUT)/obj/tests/unit/%.o $(call obj,$(UNIT_LIB)) $(call obj,$(BRIDGE_PURE)) $(LIBS) $(OUT)/liblinearizability.a
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(CMOCKA_LIBS) $(ZMQ_LIBS) $(HTTP_LIBS) $(EVENT_LIBS) $(SD_LIBS) $(INI_LIBS) $(XXH_LIBS) -lpthread -o $@

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
.SECONDARY:

# For people -------------------------------------------------------------------------------------------

NODES ?= 5
DIR   ?= $(BUILD)/run

.PHONY: help deps build-deps run check tests unit unit-sanitized sim sim-tests e2e bench bench-large check-layering tidy format clean

help:
	@echo 'make                        build everything, optimised, assertions on'
	@echo 'make run [NODES=5 DIR=…]    install what is missing, build, start a local cluster with a bridge for nc'
	@echo 'make check [SIM_MINUTES=0.5]  install what is missing, build, run all tests; so long new seeds for the simulator'
	@echo 'make unit | sim | e2e       one kind of test'
	@echo 'make mutants [MUTANT=…]     deliberate bugs, which the simulator must find; make coverage: what it reaches'
	@echo 'make bench [PEER=etcd]      measure; JSON goes to $(BUILD)/bench.json'
	@echo 'make bench-large            a million keys: memory, disk, snapshots, an empty member, a restart'
	@echo 'make SAN=address,undefined  with sanitizers (also SAN=thread); objects in $(BUILD)/san-…'
	@echo 'make deb | rpm               packages, in $(BUILD)/deb and $(BUILD)/rpm'
	@echo 'make install DESTDIR=… PREFIX=/usr/local SYSCONFDIR=/etc LIBDIR=… UNITDIR=…'
	@echo 'make check-layering tidy format clean deps'

deps:
	@packaging/install-deps
build-deps:
	@packaging/install-deps build

run: build-deps all
	packaging/run-local --bin $(OUT) --nodes $(NODES) --dir $(DIR)

check: deps all check-layering unit unit-sanitized sim sim-tests e2e

# Built but not run.
tests: $(TESTS)

# One of the tests runs raft-bridge.
unit: $(TESTS) $(PROGRAMS)
	@tests/check-journal
	@tests/unit/run $(TESTS)

# A second set of objects: the one place where make calls itself.
unit-sanitized:
	+$(MAKE) SAN=address,undefined unit

# Plans that once failed, seeds that are always the same, and new ones, other ones each time: a failure prints the command that
# repeats it and leaves the smallest plan that still fails, a replay file, in $(BUILD). SIM_MINUTES=0: no new ones.
SIM_SEEDS   ?= 1-200
SIM_MINUTES ?= 0.5
SIM_JOBS    ?= 2
sim: $(OUT)/raft-sim
	@for replay in tests/sim/replays/*.replay; do \
		$(OUT)/raft-sim --replay $$replay > $(BUILD)/replay.log || { cat $(BUILD)/replay.log; echo "$$replay"; exit 1; }; done
	$(OUT)/raft-sim --seeds $(SIM_SEEDS) --jobs $(SIM_JOBS) --quiet --out $(BUILD)
	$(if $(filter-out 0,$(SIM_MINUTES)),$(OUT)/raft-sim --minutes $(SIM_MINUTES) --jobs $(SIM_JOBS) --quiet --out $(BUILD))

# The simulator's own tests: its driver, equal histories whatever the compiler, mutants that still apply.
sim-tests: $(OUT)/raft-sim mutants-check
	tests/sim/test_driver $(OUT)/raft-sim
	tests/sim/test_leases $(OUT)/raft-sim
	+tests/sim/test_determinism --build $(BUILD)

e2e: all
	python3 tests/e2e/run.py --bin $(OUT)

bench: all
	python3 tests/bench/bench.py --bin $(OUT) --json $(BUILD)/bench.json $(if $(PEER),--peer $(PEER))

# A million keys: memory, disk, snapshots under load, an empty member, a restart.
bench-large: all
	python3 tests/bench/large.py --bin $(OUT) --json $(BUILD)/bench-large.json

check-layering: $(LIBS)
	@tests/check-layering $(OUT)

SOURCES := $(KV) $(RAFT) $(STORAGE) $(TRANSPORT) $(REPLICATOR) $(CONFIG) $(SERVICE) $(METRICS) $(RAFTD) $(BRIDGE) $(RAFTCTL) $(SIM) \
           $(BENCH) $(LINEARIZABILITY) tests/linearizability/main.c $(FUZZ) $(UNIT) $(UNIT_LIB)

tidy:
	clang-tidy --quiet $(SOURCES) -- -std=gnu11 $(ALL_CPPFLAGS)

format:
	clang-format -i $(SOURCES) $(wildcard kv/*.h daemon/*.h daemon/*/*.h bridge/*.h tests/*/*.h)

# install, deb, rpm
include packaging/packages.mk

clean:
	rm -rf $(BUILD)

# Fuzzing needs clang: make fuzz FUZZ_SECONDS=60
FUZZ_SECONDS ?= 20
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ))
.PHONY: fuzz
fuzz: $(FUZZERS)
	@for f in $(FUZZERS); do mkdir -p $$f.corpus && \
		$$f -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -print_final_stats=0 -verbosity=0 $$f.corpus || exit 1; done
$(BUILD)/fuzz/%: tests/fuzz/%.c $(KV) $(CONFIG) daemon/transport/wire.c $(wildcard bridge/line*.c)
	@mkdir -p $(@D)
	$(call say,FUZZ $@)
	$(Q)clang $(ALL_CPPFLAGS) -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined $^ $(INI_LIBS) $(XXH_LIBS) -o $@

# The simulator against deliberate bugs, and how much of the code it reaches: tests/sim/README.md.
# make mutants [MUTANT='name …'] [MUTANT_OPTIONS='--jobs 2 --max-seconds 60']
.PHONY: mutants mutants-check coverage
mutants mutants-check: export MUTANT_COMPILE = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS)
mutants: export MUTANT_LINK = $(CC) $(ALL_LDFLAGS)
mutants: export MUTANT_LIBS = $(SIM_PARTS) $(ZMQ_LIBS) $(INI_LIBS) $(XXH_LIBS) -lpthread
mutants: $(OUT)/raft-sim
	python3 tests/sim/mutants/run.py --build $(OUT)/mutants --original $< $(MUTANT_OPTIONS) $(MUTANT)
mutants-check:
	@python3 tests/sim/mutants/run.py --build $(OUT)/mutants --check --jobs 2
# Objects of their own, without optimisation: a line of the report is a line of the source.
coverage:
	+$(MAKE) BUILD=$(BUILD)/coverage CC=gcc CFLAGS='-O0 --coverage' LDFLAGS=--coverage $(BUILD)/coverage/raft-sim
	python3 tests/sim/coverage.py --build $(BUILD)/coverage $(COVERAGE_OPTIONS)
