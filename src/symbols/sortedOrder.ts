/** The order of 32-bit keys: indexes into `keys`, ascending by key; equal keys as they are in `order`, which is that of the
 *  keys themselves unless given. A typed array's own sort of (key, place) pairs as 64-bit numbers: for a kernel's symbols
 *  a third of the time of a sort that calls back. */
export const sortedOrder = (keys: Uint32Array, order?: Uint32Array): Uint32Array => {
  // Low word first: all hosts of KVM that Node runs on are little-endian.
  const words = new Uint32Array(2 * keys.length);
  for (let place = 0; place < keys.length; place++) {
    words[2 * place] = place;
    words[2 * place + 1] = keys[order?.[place] ?? place] ?? 0;
  }
  new BigUint64Array(words.buffer).sort();
  const sorted = new Uint32Array(keys.length);
  for (let place = 0; place < keys.length; place++) {
    const before = words[2 * place] ?? 0;
    sorted[place] = order?.[before] ?? before;
  }
  return sorted;
};
