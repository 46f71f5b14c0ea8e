// The hash by which an index finds names: 32-bit FNV-1a of the name in UTF-8. Whoever finds a name by it has to compare
// the name.

const encoder = new TextEncoder();
const basis = 0x811c_9dc5;
const prime = 0x0100_0193;

export const hashOf = (name: string): number => {
  const bytes = encoder.encode(name);
  return hashOfBytes(bytes, 0, bytes.length);
};

/** Of the bytes [start, end). */
export const hashOfBytes = (bytes: Uint8Array, start: number, end: number): number => {
  let hash = basis;
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), prime);
  return hash >>> 0;
};
