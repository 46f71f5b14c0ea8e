/* What C has that debug information must tell: compiled and compared by compiled.test.ts. */
#include "sample.h"

volatile s32 sink = -17;

static enum level raise_level(enum level level, stable_id id) {
  return level == LEVEL_HIGH ? level : level + (id & 1);
}

static noinline enum level lower_level(enum level level, stable_id id) {
  if (id > 100)
    sink++;
  return level - 1;
}

noinline s32 variadic(const char *text, ...) {
  return text[0];
}

noinline s32 (*make_handler(s32 number))(const char *, ...) {
  return number > 3 ? variadic : (void *)0;
}

/* Globals: each kind of type, initialised. */
const char letters[] = "letters \"quoted\"\n\t\\";
const char *words[] = {"one", "two", (void *)0, "four"};
char unterminated[4] = {'f', 'o', 'u', 'r'};
char zeros[40];
s8 small_negative = -5;
u8 byte_value = 200;
s16 half_value = -30000;
u64 huge = 0xfedcba9876543210ul;
s64 minimum = -0x7fffffffffffffffl - 1;
bool truth = 1;
float single_value = 1.5f;
double double_value = -2.25e-3;
stable_id constant_id = 42;
watched_id watched = 43;
const volatile raw_id *const fixed_pointer = &watched;
enum level level = LEVEL_NONE;
enum level level_unknown = (enum level)5;
enum wide wide_value = WIDE_LARGE;
enum flag flags = FLAG_READ | FLAG_EXECUTE;
enum tiny tiny_value = TINY_MINUS;
struct point origin = {-1, 2};
struct pair pair = {1, 0xffffffffffffffff};
struct mixed_pair mixed = {&origin, -9, {1, -2}};
struct narrow narrow = {-2, 250, -3, 0xdeadbeef};
struct bits bits = {1, 5, -7, LEVEL_LOW, 12345, 0xabcdef1234, 99, -123456789012345, 1, 300};
struct bits *bits_pointer = &bits;
struct packed_bits packed = {9, 0x5a5a5, -70368744177, 65535};
struct anonymous anonymous = {-4, {.low = 7, .high = 8}, INSIDE_B};
struct anonymous anonymous_named = {4, {.named = {{1, 2, 3}, -4, {.deeper = {-1, 5}}}}, INSIDE_A};
struct flexible flexible = {3, {{1, 2}, {3, 4}, {-5, -6}}};
handler_table handlers = {raise_level, lower_level, (void *)0};
level_handler *handler_cursor = &handlers[1];
handler_maker maker = make_handler;
struct node second_node;
struct node first_node = {&second_node, &first_node.next, "first", lower_level, {.number = -1}};
struct node second_node = {(void *)0, &first_node.next, letters + 8, raise_level, {.real = 0.5}};
struct aligned aligned = {
    .byte = 1,
    .half = 2,
    .inner = {[1] = {.negative = -1, .tail = 4}},
    .matrix = {{{1, 2, 3, 4}, {5}}, {{[3] = 6}, {7, 7, 7, 7}}},
    .text = "aligned",
    .raw = {7, 6, 5},
    .fraction = -0.5f,
    .real = 1e300,
    .maker = make_handler,
};
union overlay overlay = {.words = {0x0123456789abcdef, 0xfedcba9876543210, 3, 1}};
struct empty empty;
s32 grid[3][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 9, 9, 9}};
s32 repeated[300] = {[0 ... 20] = 4, 5, [290] = 6};
struct point path_points[3] = {{1, 1}, {1, 1}, {2, 3}};
s32 (*row_pointer)[4] = &grid[1];
void *opaque = &grid[2][1];
struct {
  s32 hidden;
  struct point *points[2];
} nameless = {11, {&origin, &path_points[2]}};

noinline s32 distance(struct point point) {
  return clamp(point.x, 0, 50) + clamp(point.y, 0, 50);
}

noinline struct pair swap(struct pair value, u64 offset) {
  struct pair result = {value.second + offset, value.first - offset};
  if (result.first > result.second) {
    struct pair result = {value.first, offset};
    sink = (s32)result.second;
    return result;
  }
  return result;
}

noinline u64 unpack(struct mixed_pair value, struct narrow narrow) {
  struct point *point = value.pointer;
  u64 sum = (u64)(value.number + value.halves[1]) * narrow.rest;
  sink += narrow.low;
  sum += mix((u64)point->x + narrow.middle);
  return sum + (u64)distance(*point) + (u64)narrow.high;
}

static s32 *counter(s32 step) {
  static s32 count = 5;
  static struct point last = {6, -6};
  if (step > 0) {
    static s32 count = -50;
    count += step;
    last.x = count;
  }
  count += step;
  last.y += count;
  return &count;
}

noinline s32 shadow(s32 value) {
  s32 total = value;
  for (s32 value = 0; value < 4; value++) {
    s32 total_inside = total * value;
    {
      s64 value = total_inside + sink;
      sink = (s32)value;
      if (value & 1) {
        u8 value = (u8)sink;
        total += value;
      }
    }
    total += total_inside;
  }
  return total;
}

/* The last thing both do is a call: at -O2 a jump. */
noinline u64 tail(u64 value) {
  sink = (s32)value;
  return mix_all(&value, 1) > 3 ? unpack(mixed, narrow) : (u64)shadow((s32)value);
}

noinline s32 tail_indirect(level_handler *table, u32 index) {
  sink++;
  return table[index](LEVEL_LOW, index);
}

__attribute__((section(".init.text"))) noinline u64 initialise(u64 *values, u32 count) {
  u64 total = mix_all(values, count);
  for (u32 index = 0; index < count; index++)
    values[index] = mix(total + index);
  return total + (u64)spread(origin, (s32)count);
}

u64 read_bits(const struct bits *from, union overlay *to) {
  to->bits = *from;
  to->shifted = (u32)from->negative;
  return from->wide + (u64)from->tail + from->across;
}

s32 entry(s32 argument, char **names) {
  struct node local = {.name = names[0], .handler = handlers[argument & 1]};
  u64 values[3] = {1, 2, (u64)argument};
  struct pair swapped = swap(pair, values[2]);
  push(&local, &first_node);
  push(&second_node, &local);
  switch (argument) {
  case LEVEL_LOW:
    return spread(origin, argument) + distance(origin);
  case LEVEL_ZERO: {
    s32 argument = *counter(3);
    return spread(path_points[2], argument);
  }
  case 3:
    return (s32)initialise(values, 3);
  case 4:
    return tail_indirect(handlers, (u32)argument) + shadow(7);
  case 5:
    return (s32)read_bits(&bits, &overlay) + words[1][0] + letters[2];
  default:
    sink = make_handler(argument)("text", swapped.first);
  }
  return (s32)(mix_all(values, 2) + tail(swapped.second) + mix(values[1]));
}
