/* Types and inline functions of sample.c, which compiled.test.ts compiles. */
#ifndef SAMPLE_H
#define SAMPLE_H

#define always_inline inline __attribute__((always_inline))
#define noinline __attribute__((noinline))

typedef unsigned char u8;
typedef signed char s8;
typedef unsigned short u16;
typedef short s16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long u64;
typedef long s64;
typedef _Bool bool;

/* A chain of typedefs, with qualifiers on the way. */
typedef u32 raw_id;
typedef const raw_id fixed_id;
typedef fixed_id stable_id;
typedef volatile stable_id watched_id;

enum level { LEVEL_NONE = -3, LEVEL_LOW = -1, LEVEL_ZERO, LEVEL_HIGH = 7 };
enum wide { WIDE_SMALL = 1, WIDE_LARGE = 0x123456789abL };
enum { ANONYMOUS_MINUS = -2000000000, ANONYMOUS_PLUS = 2000000000 };
enum flag { FLAG_READ = 1, FLAG_WRITE = 2, FLAG_EXECUTE = 4 };
enum __attribute__((__packed__)) tiny { TINY_MINUS = -1, TINY_PLUS = 1 };

typedef enum level (*level_handler)(enum level, stable_id);
typedef level_handler handler_table[3];
typedef s32 (*(*handler_maker)(s32))(const char *, ...);

struct point {
  s32 x, y;
};

/* Two registers' worth: passed and returned in them. */
struct pair {
  u64 first;
  u64 second;
};

struct mixed_pair {
  void *pointer;
  s32 number;
  s16 halves[2];
};

/* One register's worth: its members are parts of one. */
struct narrow {
  s16 low;
  u8 middle;
  s8 high;
  u32 rest;
};

struct bits {
  u32 first : 1;
  u32 second : 3;
  s32 negative : 5;
  u32 : 4;
  enum level level : 4;
  u32 across : 15;
  u64 wide : 40;
  u8 byte;
  s64 tail : 61;
  u8 : 0;
  bool truth : 1;
  u16 rest : 9;
};

struct __attribute__((__packed__)) packed_bits {
  u8 head;
  u32 middle : 19;
  s64 straddling : 47;
  u16 end;
};

struct anonymous {
  s32 tag;
  union {
    u64 whole;
    struct {
      u32 low;
      u32 high;
    };
    struct {
      u8 bytes[3];
      s8 sign : 4;
      union {
        u16 deep;
        s8 deeper[2];
      };
    } named;
  };
  enum { INSIDE_A = 5, INSIDE_B = -6 } inside;
};

struct flexible {
  u32 count;
  struct point points[];
};

struct node {
  struct node *next, **back;
  const char *name;
  level_handler handler;
  union {
    s64 number;
    const struct node *other;
    double real;
  } payload;
};

struct __attribute__((__aligned__(64))) aligned {
  u8 byte;
  u16 half __attribute__((__aligned__(16)));
  struct bits inner[2];
  u64 matrix[2][3][4];
  char text[16];
  u8 raw[7];
  float fraction;
  double real;
  handler_maker maker;
};

union overlay {
  struct bits bits;
  u64 words[4];
  struct {
    u32 : 7;
    u32 shifted : 11;
  };
};

struct empty {};

extern volatile s32 sink;

static always_inline s32 clamp(s32 value, s32 low, s32 high) {
  if (value < low)
    return low;
  if (value > high)
    return high;
  return value;
}

/* Inlines an inline function twice, in a block with locals of its own. */
static always_inline s32 spread(struct point point, s32 factor) {
  s32 result = 0;
  {
    s32 factor_x = clamp(point.x * factor, -100, 100);
    {
      s32 result = factor_x + sink;
      sink = result;
    }
    result = factor_x + clamp(point.y * factor, -10, 1000);
  }
  return result;
}

static inline u64 mix(u64 value) {
  value ^= value >> 29;
  value *= 0xbf58476d1ce4e5b9ul;
  value ^= value >> 32;
  return value;
}

static inline u64 mix_all(const u64 *values, u32 count) {
  u64 total = count;
  for (u32 index = 0; index < count; index++)
    total += mix(values[index]);
  return total;
}

static always_inline void push(struct node *node, struct node *list) {
  node->next = list->next;
  node->back = &list->next;
  list->next = node;
  if (node->next)
    node->next->back = &node->next;
}

#endif
