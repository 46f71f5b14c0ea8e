/** A guest program without an operating system: an arm64 `Image` of routines that a test sends a vCPU to by writing its
 *  pc. Each ends in a BRK of an immediate of its own, which the test has the target stop at. */

/** Offsets of the routines and places in the image. */
export const place = {
  start: 0x40n,
  registers: 0x48n,
  user: 0x15cn,
  dump: 0x160n,
  traps: 0x1c0n,
  idle: 0x204n,
  brk64: 0x20cn,
  bkptA32: 0x214n,
  bkptT32: 0x218n,
  taken: 0x21cn,
  hot: 0x280n,
  hotPlace: 0x284n,
  access: 0x28cn,
  line: 0x2dcn,
  both: 0x330n,
  together: 0x35cn,
  place: 0x360n,
  mmu: 0x368n,
  timer: 0x3b4n,
  ticking: 0x41cn,
  interrupt: 0x42cn,
  vectors: 0x800n,
  /** Room for data, zero at first. */
  data: 0x4000n,
} as const;

/** From 0x40 on. */
const code = [
  0xd421e000, // 040 start: brk #0xf00
  0x17ffffff, // 044 b start
  // registers as the pattern at x30 says: x0-x30, then at 256 v0-v31, at 768 fpsr, fpcr, sp_el1, sp_el0, nzcv
  0xd2a00600, // 048 registers: mov x0, #0x300000
  0xd5181040, // 04c msr cpacr_el1, x0
  0xd5033fdf, // 050 isb
  0xf94183c0, // 054 ldr x0, [x30, #768]
  0xd51b4420, // 058 msr fpsr, x0
  0xf94187c0, // 05c ldr x0, [x30, #776]
  0xd51b4400, // 060 msr fpcr, x0
  0xf9418bc0, // 064 ldr x0, [x30, #784]
  0x9100001f, // 068 mov sp, x0
  0xf9418fc0, // 06c ldr x0, [x30, #792]
  0xd5184100, // 070 msr sp_el0, x0
  0xf94193c0, // 074 ldr x0, [x30, #800]
  0xd51b4200, // 078 msr nzcv, x0
  0x3dc043c0, // 07c ldr q0, [x30, #256]
  0x3dc04bc2, // 080 ldr q2, [x30, #288]
  0x3dc053c4, // 084 ldr q4, [x30, #320]
  0x3dc05bc6, // 088 ldr q6, [x30, #352]
  0x3dc063c8, // 08c ldr q8, [x30, #384]
  0x3dc06bca, // 090 ldr q10, [x30, #416]
  0x3dc073cc, // 094 ldr q12, [x30, #448]
  0x3dc07bce, // 098 ldr q14, [x30, #480]
  0x3dc083d0, // 09c ldr q16, [x30, #512]
  0x3dc08bd2, // 0a0 ldr q18, [x30, #544]
  0x3dc093d4, // 0a4 ldr q20, [x30, #576]
  0x3dc09bd6, // 0a8 ldr q22, [x30, #608]
  0x3dc0a3d8, // 0ac ldr q24, [x30, #640]
  0x3dc0abda, // 0b0 ldr q26, [x30, #672]
  0x3dc0b3dc, // 0b4 ldr q28, [x30, #704]
  0x3dc0bbde, // 0b8 ldr q30, [x30, #736]
  0x3dc047c1, // 0bc ldr q1, [x30, #272]
  0x3dc04fc3, // 0c0 ldr q3, [x30, #304]
  0x3dc057c5, // 0c4 ldr q5, [x30, #336]
  0x3dc05fc7, // 0c8 ldr q7, [x30, #368]
  0x3dc067c9, // 0cc ldr q9, [x30, #400]
  0x3dc06fcb, // 0d0 ldr q11, [x30, #432]
  0x3dc077cd, // 0d4 ldr q13, [x30, #464]
  0x3dc07fcf, // 0d8 ldr q15, [x30, #496]
  0x3dc087d1, // 0dc ldr q17, [x30, #528]
  0x3dc08fd3, // 0e0 ldr q19, [x30, #560]
  0x3dc097d5, // 0e4 ldr q21, [x30, #592]
  0x3dc09fd7, // 0e8 ldr q23, [x30, #624]
  0x3dc0a7d9, // 0ec ldr q25, [x30, #656]
  0x3dc0afdb, // 0f0 ldr q27, [x30, #688]
  0x3dc0b7dd, // 0f4 ldr q29, [x30, #720]
  0x3dc0bfdf, // 0f8 ldr q31, [x30, #752]
  0xa94007c0, // 0fc ldp x0, x1, [x30]
  0xa9410fc2, // 100 ldp x2, x3, [x30, #16]
  0xa94217c4, // 104 ldp x4, x5, [x30, #32]
  0xa9431fc6, // 108 ldp x6, x7, [x30, #48]
  0xa94427c8, // 10c ldp x8, x9, [x30, #64]
  0xa9452fca, // 110 ldp x10, x11, [x30, #80]
  0xa94637cc, // 114 ldp x12, x13, [x30, #96]
  0xa9473fce, // 118 ldp x14, x15, [x30, #112]
  0xa94847d0, // 11c ldp x16, x17, [x30, #128]
  0xa9494fd2, // 120 ldp x18, x19, [x30, #144]
  0xa94a57d4, // 124 ldp x20, x21, [x30, #160]
  0xa94b5fd6, // 128 ldp x22, x23, [x30, #176]
  0xa94c67d8, // 12c ldp x24, x25, [x30, #192]
  0xa94d6fda, // 130 ldp x26, x27, [x30, #208]
  0xa94e77dc, // 134 ldp x28, x29, [x30, #224]
  0xf9407bde, // 138 ldr x30, [x30, #240]
  0xd421e020, // 13c brk #0xf01
  0xd50040bf, // 140 msr spsel, #0x0
  0xd421e040, // 144 brk #0xf02
  0xd50041bf, // 148 msr spsel, #0x1
  0x10000080, // 14c adr x0, user
  0xd5184020, // 150 msr elr_el1, x0
  0xd518401f, // 154 msr spsr_el1, xzr
  0xd69f03e0, // 158 eret
  0xd421e060, // 15c user: brk #0xf03
  // the same, stored at x30 instead (x30 itself is not)
  0xa90007c0, // 160 dump: stp x0, x1, [x30]
  0xa9010fc2, // 164 stp x2, x3, [x30, #16]
  0xa90217c4, // 168 stp x4, x5, [x30, #32]
  0xa9031fc6, // 16c stp x6, x7, [x30, #48]
  0xa90427c8, // 170 stp x8, x9, [x30, #64]
  0xa9052fca, // 174 stp x10, x11, [x30, #80]
  0xa90637cc, // 178 stp x12, x13, [x30, #96]
  0xa9073fce, // 17c stp x14, x15, [x30, #112]
  0xa90847d0, // 180 stp x16, x17, [x30, #128]
  0xa9094fd2, // 184 stp x18, x19, [x30, #144]
  0xa90a57d4, // 188 stp x20, x21, [x30, #160]
  0xa90b5fd6, // 18c stp x22, x23, [x30, #176]
  0xa90c67d8, // 190 stp x24, x25, [x30, #192]
  0xa90d6fda, // 194 stp x26, x27, [x30, #208]
  0xa90e77dc, // 198 stp x28, x29, [x30, #224]
  0x3d8043c0, // 19c str q0, [x30, #256]
  0x3d80bfdf, // 1a0 str q31, [x30, #752]
  0x910003e0, // 1a4 mov x0, sp
  0xf9018bc0, // 1a8 str x0, [x30, #784]
  0xd5384100, // 1ac mrs x0, sp_el0
  0xf9018fc0, // 1b0 str x0, [x30, #792]
  0xd53b4200, // 1b4 mrs x0, nzcv
  0xf90193c0, // 1b8 str x0, [x30, #800]
  0xd421e080, // 1bc brk #0xf04
  // BRK from each state of the table at x20: { spsr, sctlr bits to set, sctlr bits to clear, offset of the code }; x22 states;
  // records at x21; x24 bits: 0 PAN, 1 SSBS, 2 DIT are there
  0x10003200, // 1c0 traps: adr x0, vectors
  0xd518c000, // 1c4 msr vbar_el1, x0
  0xd5033fdf, // 1c8 isb
  0xb40001d6, // 1cc trap: cbz x22, idle
  0xd10006d6, // 1d0 sub x22, x22, #0x1
  0xa8c10680, // 1d4 ldp x0, x1, [x20], #16
  0xa8c10e82, // 1d8 ldp x2, x3, [x20], #16
  0xd5381004, // 1dc mrs x4, sctlr_el1
  0xaa010084, // 1e0 orr x4, x4, x1
  0x8a220084, // 1e4 bic x4, x4, x2
  0xd5181004, // 1e8 msr sctlr_el1, x4
  0x10fff0a5, // 1ec adr x5, image
  0x8b0300a5, // 1f0 add x5, x5, x3
  0xd5184025, // 1f4 msr elr_el1, x5
  0xd5184000, // 1f8 msr spsr_el1, x0
  0xd5033fdf, // 1fc isb
  0xd69f03e0, // 200 eret
  0xd503207f, // 204 idle: wfi
  0x17ffffff, // 208 b idle
  0xd4224680, // 20c brk64: brk #0x1234
  0x17fffffd, // 210 b idle
  0xe1212374, // 214 bkptA32: bkpt #0x1234 (A32)
  0xbe57be56, // 218 bkptT32: bkpt #0x56; bkpt #0x57 (T32)
  0xd53b4204, // 21c taken: mrs x4, nzcv
  0xd5385200, // 220 mrs x0, esr_el1
  0xd5384021, // 224 mrs x1, elr_el1
  0xd5384002, // 228 mrs x2, spsr_el1
  0xd53b4225, // 22c mrs x5, daif
  0xd5384206, // 230 mrs x6, spsel
  0xd5384247, // 234 mrs x7, currentel
  0xd2800008, // 238 mov x8, #0x0
  0xd2800009, // 23c mov x9, #0x0
  0xd280000b, // 240 mov x11, #0x0
  0x36000058, // 244 tbz w24, #0, taken+0x30
  0xd5384268, // 248 mrs x8, pan
  0x36080058, // 24c tbz w24, #1, taken+0x38
  0xd53b42c9, // 250 mrs x9, ssbs
  0x36100058, // 254 tbz w24, #2, taken+0x40
  0xd53b42ab, // 258 mrs x11, dit
  0x10ffed2c, // 25c adr x12, image
  0xcb0c0021, // 260 sub x1, x1, x12
  0xa88102aa, // 264 stp x10, x0, [x21], #16
  0xa8810aa1, // 268 stp x1, x2, [x21], #16
  0xa88116a4, // 26c stp x4, x5, [x21], #16
  0xa8811ea6, // 270 stp x6, x7, [x21], #16
  0xa88126a8, // 274 stp x8, x9, [x21], #16
  0xa8817eab, // 278 stp x11, xzr, [x21], #16
  0x17ffffd4, // 27c b trap
  // counts in x19 and x20
  0x91000673, // 280 hot: add x19, x19, #0x1
  0x91000694, // 284 hotPlace: add x20, x20, #0x1
  0x17fffffe, // 288 b hot
  // one access of 2^x1 bytes at x0: x1 0-3 stores, 4-7 loads
  0x10000062, // 28c access: adr x2, accesses
  0x8b010c42, // 290 add x2, x2, x1, lsl #3
  0xd61f0040, // 294 br x2
  0x39000003, // 298 accesses: strb w3, [x0]
  0x1400000f, // 29c b accessed
  0x79000003, // 2a0 strh w3, [x0]
  0x1400000d, // 2a4 b accessed
  0xb9000003, // 2a8 str w3, [x0]
  0x1400000b, // 2ac b accessed
  0xf9000003, // 2b0 str x3, [x0]
  0x14000009, // 2b4 b accessed
  0x39400004, // 2b8 ldrb w4, [x0]
  0x14000007, // 2bc b accessed
  0x79400004, // 2c0 ldrh w4, [x0]
  0x14000005, // 2c4 b accessed
  0xb9400004, // 2c8 ldr w4, [x0]
  0x14000003, // 2cc b accessed
  0xf9400004, // 2d0 ldr x4, [x0]
  0x14000001, // 2d4 b accessed
  0xd421e0a0, // 2d8 accessed: brk #0xf05
  0xd503201f, // 2dc line: nop
  ...Array<number>(19).fill(0xd503201f), // 2e0 nop
  0xd421e0c0, // 32c brk #0xf06
  // both vCPUs in one loop; x19 counts how often the place was executed
  0x52800060, // 330 both: mov w0, #0x3
  0x72b88000, // 334 movk w0, #0xc400, lsl #16
  0xd2800021, // 338 mov x1, #0x1
  0x100000c2, // 33c adr x2, second
  0xd2822223, // 340 mov x3, #0x1111
  0xd4000002, // 344 hvc #0x0
  0xd284445c, // 348 mov x28, #0x2222
  0xd2800013, // 34c mov x19, #0x0
  0x14000003, // 350 b together
  0xaa0003fc, // 354 second: mov x28, x0
  0xd2800013, // 358 mov x19, #0x0
  0x91000694, // 35c together: add x20, x20, #0x1
  0x91000673, // 360 place: add x19, x19, #0x1
  0x17fffffe, // 364 b together
  // the MMU on with tcr x0, ttbr0 x1, ttbr1 x2, mair x4; x6 is what the CPU finds at x3
  0xd518a204, // 368 mmu: msr mair_el1, x4
  0xd5182040, // 36c msr tcr_el1, x0
  0xd5182001, // 370 msr ttbr0_el1, x1
  0xd5182022, // 374 msr ttbr1_el1, x2
  0xd5033fdf, // 378 isb
  0xd508871f, // 37c tlbi vmalle1
  0xd503379f, // 380 dsb nsh
  0xd5033fdf, // 384 isb
  0xd5381005, // 388 mrs x5, sctlr_el1
  0xb24000a5, // 38c orr x5, x5, #0x1
  0xd5181005, // 390 msr sctlr_el1, x5
  0xd5033fdf, // 394 isb
  0xf9400066, // 398 ldr x6, [x3]
  0xd421e0e0, // 39c brk #0xf07
  0xd5381005, // 3a0 mrs x5, sctlr_el1
  0x927ff8a5, // 3a4 and x5, x5, #0xfffffffffffffffe
  0xd5181005, // 3a8 msr sctlr_el1, x5
  0xd5033fdf, // 3ac isb
  0xd421e100, // 3b0 brk #0xf08
  // the virtual timer's interrupt is pending nearly always; GIC distributor x0, redistributor x1; x19 counts interrupts
  0xd28000e2, // 3b4 timer: mov x2, #0x7
  0xd518cca2, // 3b8 msr icc_sre_el1, x2
  0xd5033fdf, // 3bc isb
  0x52800242, // 3c0 mov w2, #0x12
  0xb9000002, // 3c4 str w2, [x0]
  0xb9401422, // 3c8 ldr w2, [x1, #20]
  0x121e7842, // 3cc and w2, w2, #0xfffffffd
  0xb9001422, // 3d0 str w2, [x1, #20]
  0x91404023, // 3d4 add x3, x1, #0x10, lsl #12
  0x12800002, // 3d8 mov w2, #0xffffffff
  0xb9008062, // 3dc str w2, [x3, #128]
  0x52a10002, // 3e0 mov w2, #0x8000000
  0xb9010062, // 3e4 str w2, [x3, #256]
  0xd2801e02, // 3e8 mov x2, #0xf0
  0xd5184602, // 3ec msr icc_pmr_el1, x2
  0xd2800022, // 3f0 mov x2, #0x1
  0xd518cce2, // 3f4 msr icc_igrpen1_el1, x2
  0x10002042, // 3f8 adr x2, vectors
  0xd518c002, // 3fc msr vbar_el1, x2
  0xd51be35f, // 400 msr cntv_cval_el0, xzr
  0xd2800022, // 404 mov x2, #0x1
  0xd51be322, // 408 msr cntv_ctl_el0, x2
  0xd5033fdf, // 40c isb
  0xd2800013, // 410 mov x19, #0x0
  0xd2800014, // 414 mov x20, #0x0
  0xd50342ff, // 418 msr daifclr, #0x2
  0x91000694, // 41c ticking: add x20, x20, #0x1
  0xd503201f, // 420 nop
  0xd503201f, // 424 nop
  0x17fffffd, // 428 b ticking
  0xd538cc05, // 42c interrupt: mrs x5, icc_iar1_el1
  0x91000673, // 430 add x19, x19, #0x1
  0xd53be046, // 434 mrs x6, cntvct_el0
  0x914010c6, // 438 add x6, x6, #0x4, lsl #12
  0xd51be346, // 43c msr cntv_cval_el0, x6
  0xd518cc25, // 440 msr icc_eoir1_el1, x5
  0xd5033fdf, // 444 isb
  0xd69f03e0, // 448 eret
];

/** `mov x10, #offset; b target` at each of the sixteen vectors: synchronous, IRQ, FIQ, SError from four sources. */
function vectors(words: Uint32Array): void {
  for (let offset = 0; offset < 0x800; offset += 0x80) {
    const at = Number(place.vectors) + offset;
    const target = offset === 0x280 ? place.interrupt : place.taken;
    words[at / 4] = 0xd280000a | (offset << 5);
    words[at / 4 + 1] = 0x14000000 | (((Number(target) - at - 4) / 4) & 0x3ffffff);
  }
}

/** The header of Linux Documentation/arm64/booting.rst: code0, text_offset at 8, image_size at 16, flags at 24 (4 KiB pages,
 *  anywhere), magic at 56. */
export function image(): Uint8Array {
  const bytes = new Uint8Array(0x1000);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x14000000 | (Number(place.start) / 4), true); // b start
  view.setBigUint64(16, 0x20_0000n, true);
  view.setBigUint64(24, 0b1010n, true);
  view.setUint32(56, 0x644d5241, true); // "ARM\x64"
  const words = new Uint32Array(bytes.buffer);
  words.set(code, Number(place.start) / 4);
  vectors(words);
  return bytes;
}
