/** What a busybox binary offers, read from the binary: it is built for arm64 and cannot be asked here. */

/** Applet names, as busybox keeps them: a sorted run of NUL-terminated strings that starts with `[` and `[[`. */
export function appletNames(busybox: Uint8Array): string[] {
  const image = Buffer.from(busybox.buffer, busybox.byteOffset, busybox.byteLength);
  const start = image.indexOf('\0[\0[[\0');
  const end = image.indexOf('\0\0', start + 1);
  const names = start < 0 ? [] : image.toString('latin1', start + 1, end).split('\0');
  const broken = names.filter((name) => !/^[\w[.-]+$/.test(name));
  if (!names.includes('sh') || !names.includes('mount') || broken.length > 0) {
    throw new Error('cannot find the applet names in busybox: its layout has changed, adapt lab/busybox.ts');
  }
  return names.filter((name) => name !== 'busybox');
}
