# The fuzz targets with libFuzzer: the sources of the library once more, by clang and with its sanitizers.
# Called by t/fuzz/run, which sets SRC (the source tree), TOP (the configured one), OUT, SOURCES, TARGETS, FLAGS and LIBS.
CC     = $(FUZZ_CC)
# Nothing is installed anywhere: what a target sees is its input alone.
CFLAGS = -std=gnu11 -pthread -D_GNU_SOURCE -DPARLEY_SYSCONFDIR='"/nonexistent"' -DPARLEY_DATADIR='"/nonexistent"' \
	-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined $(FLAGS)
COVER  = -fsanitize=fuzzer-no-link
OBJECTS = $(patsubst %.c,$(OUT)/%.o,$(SOURCES))

all: $(TARGETS:%=$(OUT)/bin/%)

# A target may include a file of src/: its object is then left in the library.
$(OUT)/bin/%: $(OUT)/t/fuzz/%.o $(OUT)/libparley.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fsanitize=fuzzer -rdynamic -pthread -o $@ $< $(OUT)/libparley.a $(LIBS)

$(OUT)/libparley.a: $(OBJECTS)
	@rm -f $@
	ar rcs $@ $(OBJECTS)

$(OUT)/%.o: $(SRC)/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(COVER) -MMD -MP -c -o $@ $<

.PRECIOUS: $(OUT)/%.o
-include $(OBJECTS:.o=.d) $(TARGETS:%=$(OUT)/t/fuzz/%.d)
