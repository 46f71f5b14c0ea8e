import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryType } from '../../src/arch/aarch64/memoryType.ts';
import { fieldsOf } from '../../src/arch/aarch64/registerFields.ts';

test('attributes of MAIR_EL1', () => {
  for (const [attribute, expected] of [
    // Linux, arch/arm64/include/asm/sysreg.h: MAIR_ATTR_*.
    [0x00, 'Device-nGnRnE'],
    [0x04, 'Device-nGnRE'],
    [0x44, 'Normal non-cacheable'],
    [0xf0, 'Normal write-back, tagged'],
    [0xff, 'Normal write-back'],
    // The tables of the manual.
    [0x08, 'Device-nGRE'],
    [0x0c, 'Device-GRE'],
    [0x0d, 'Device-GRE, XS 0'],
    [0x02, 'reserved'],
    [0x10, 'reserved'],
    [0x40, 'Normal non-cacheable, XS 0'],
    [0xa0, 'Normal write-through, read-allocate, XS 0'],
    [0xbb, 'Normal write-through'],
    [0xee, 'Normal write-back read-allocate'],
    [0x88, 'Normal write-through no allocation'],
    [0x33, 'Normal write-through transient'],
    [0x55, 'Normal write-back transient write-allocate'],
    [0x4f, 'Normal, inner write-back, outer non-cacheable'],
    [0xf4, 'Normal, inner non-cacheable, outer write-back'],
  ] as const) {
    assert.equal(memoryType(attribute), expected, attribute.toString(16));
  }
});

test('the fields of mair_el1 are named by it, every value', () => {
  const [field] = fieldsOf('mair_el1') ?? [];
  assert.equal(field?.values?.[0xbb], 'Normal write-through');
  assert.equal(Object.keys(field?.values ?? {}).length, 256);
});
