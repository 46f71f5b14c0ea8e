// Memory types: an attribute of MAIR_EL1 in words.
//
// Arm ARM (DDI 0487) D24.2 MAIR_EL1, Attr<n>:
//   0b0000dd00  Device: dd 0 nGnRnE, 1 nGnRE, 2 nGRE, 3 GRE     0b0000dd01  the same with XS 0 (FEAT_XS)
//   0booooiiii  Normal, oooo outer and iiii inner, neither 0:
//                 0b00RW  write-through, transient      0b10RW  write-through
//                 0b0100  non-cacheable                 0b11RW  write-back
//                 0b01RW  write-back, transient         R, W: allocates on reads, on writes; not both 0 in the transient ones
//   0b01000000  Normal non-cacheable with XS 0          0b10100000  Normal write-through, read-allocate, with XS 0
//   0b11110000  Normal write-back, tagged (FEAT_MTE2)   others are reserved

const devices = ['Device-nGnRnE', 'Device-nGnRE', 'Device-nGRE', 'Device-GRE'];
const special: Readonly<Record<number, string>> = {
  64: 'Normal non-cacheable, XS 0',
  160: 'Normal write-through, read-allocate, XS 0',
  240: 'Normal write-back, tagged',
};
const allocations = ['no allocation', 'write-allocate', 'read-allocate', ''];

export function memoryType(attribute: number): string {
  const [outer, inner] = [(attribute >> 4) & 15, attribute & 15];
  if (outer === 0) return inner & 2 ? 'reserved' : `${devices[inner >> 2]}${inner & 1 ? ', XS 0' : ''}`;
  if (inner === 0) return special[attribute] ?? 'reserved';
  return outer === inner ? `Normal ${caching(inner)}` : `Normal, inner ${caching(inner)}, outer ${caching(outer)}`;
}

/** The usual allocation, on reads and writes, goes without saying. */
function caching(bits: number): string {
  if (bits === 0b0100) return 'non-cacheable';
  const kind = bits & 0b0100 ? 'write-back' : 'write-through';
  return [kind, bits & 0b1000 ? '' : 'transient', allocations[bits & 3]].filter(Boolean).join(' ');
}
