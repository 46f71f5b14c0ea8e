/** A guest of our own that does nothing but exit to the VMM. */

/** Where the first serial port's data register is: kvmtool's 8250 (arm/include/arm-common/kvm-arch.h), QEMU `virt`'s PL011
 *  (hw/arm/virt.c). */
const serial = { kvmtool: 0x0100, qemu: 0x0900 } as const;

/** It writes one character for so many exits (one of which is that write). */
export const exitsPerCharacter = 65;

/** An arm64 Image (Documentation/arch/arm64/booting.rst): 64-byte header, then the program. It reads, with the MMU off, an
 *  address that no device of either VMM claims, 64 times for each character. */
export function exitGuest(vmm: keyof typeof serial): Uint8Array {
  const image = new DataView(new ArrayBuffer(0x1000));
  const program = [
    0xd2a40002, //                               mov  x2, #0x20000000
    0xd2a00004 | (serial[vmm] << 5), //          mov  x4, #serial
    0x528005c6, //                               mov  w6, #'.'
    0xd2800805, //                        loop:  mov  x5, #64
    0xb9400043, //                        exit:  ldr  w3, [x2]
    0xf10004a5, //                               subs x5, x5, #1
    0x54ffffc1, //                               b.ne exit
    0x39000086, //                               strb w6, [x4]
    0x17fffffb, //                               b    loop
  ];
  image.setUint32(0, 0x14000010, true); // b .+64
  image.setBigUint64(16, 0x1000n, true); // image_size
  image.setBigUint64(24, 0xan, true); // flags: 4 KiB pages, anywhere in memory
  image.setUint32(56, 0x644d5241, true); // "ARM\x64"
  for (const [index, word] of program.entries()) image.setUint32(64 + 4 * index, word, true);
  return new Uint8Array(image.buffer);
}
