// The code that runs inside the VMM: a loop over a list of system calls, and a signal handler for the case that the
// tracer dies while a thread is in that loop.
//
// The list is an array of 64-byte entries { number, arguments[6], result }; number -1 synchronises the instruction
// cache with [arguments[0], arguments[1]) instead. x19 points at the list, x20 counts it, x21 points at the saved
// state { x0-x30, sp, pc, pstate (as NT_PRSTATUS), signal mask }. The loop ends in a BRK for the tracer. With no tracer
// left the BRK raises SIGTRAP, whose handler puts the saved state into the signal frame: the thread goes on where it
// was taken from. A SIGTRAP from elsewhere (a perf event that outlived the tracer) is ignored.

/** Entry size and field offsets, bytes. */
export const entry = { size: 64, number: 0, argument: 8, result: 56 } as const;
export const syncInstructionCache = -1n;

/** Bytes from the start of the code. */
export const stubEnd = 0x90n;
export const orphanHandler = 0x94n;

export const stubCode = new Uint8Array(
  new Uint32Array([
    0xb4000494, // 00 loop:  cbz  x20, done
    0xf9400268, // 04        ldr  x8, [x19]
    0xb100051f, // 08        cmn  x8, #1
    0x54000120, // 0c        b.eq sync
    0xa9408660, // 10        ldp  x0, x1, [x19, #8]
    0xa9418e62, // 14        ldp  x2, x3, [x19, #24]
    0xa9429664, // 18        ldp  x4, x5, [x19, #40]
    0xd4000001, // 1c        svc  #0
    0xf9001e60, // 20 store: str  x0, [x19, #56]
    0x91010273, // 24        add  x19, x19, #64
    0xd1000694, // 28        sub  x20, x20, #1
    0x17fffff5, // 2c        b    loop
    0xa9408660, // 30 sync:  ldp  x0, x1, [x19, #8]
    0xd53b0022, // 34        mrs  x2, ctr_el0           ; line sizes, log2 of words: DminLine 19:16, IminLine 3:0
    0xd2800084, // 38        mov  x4, #4
    0xd3504c43, // 3c        ubfx x3, x2, #16, #4
    0x9ac32085, // 40        lsl  x5, x4, x3
    0xd10004a3, // 44        sub  x3, x5, #1
    0x8a230006, // 48        bic  x6, x0, x3
    0xd50b7b26, // 4c clean: dc   cvau, x6              ; Arm ARM B2.7.4.2: clean to PoU, DSB, invalidate, DSB, ISB
    0x8b0500c6, // 50        add  x6, x6, x5
    0xeb0100df, // 54        cmp  x6, x1
    0x54ffffa3, // 58        b.lo clean
    0xd5033b9f, // 5c        dsb  ish
    0x92400c43, // 60        and  x3, x2, #15
    0x9ac32085, // 64        lsl  x5, x4, x3
    0xd10004a3, // 68        sub  x3, x5, #1
    0x8a230006, // 6c        bic  x6, x0, x3
    0xd50b7526, // 70 inval: ic   ivau, x6
    0x8b0500c6, // 74        add  x6, x6, x5
    0xeb0100df, // 78        cmp  x6, x1
    0x54ffffa3, // 7c        b.lo inval
    0xd5033b9f, // 80        dsb  ish
    0xd5033fdf, // 84        isb
    0xd2800000, // 88        mov  x0, #0
    0x17ffffe5, // 8c        b    store
    0xd4296880, // 90 done:  brk  #0x4b44
    // handler(signal, siginfo, ucontext): struct ucontext of arch/arm64/include/uapi/asm/ucontext.h and sigcontext.h:
    // uc_sigmask at 40, regs[31] at 184, sp at 432, pc at 440, pstate at 448.
    0xf940dc43, // 94        ldr  x3, [x2, #440]
    0x10ffffc4, // 98        adr  x4, done
    0xeb04007f, // 9c        cmp  x3, x4
    0x54000141, // a0        b.ne out
    0xf940b045, // a4        ldr  x5, [x2, #352]        ; x21
    0x9102e046, // a8        add  x6, x2, #184
    0xd2800227, // ac        mov  x7, #17
    0xa8c124a8, // b0 copy:  ldp  x8, x9, [x5], #16
    0xa88124c8, // b4        stp  x8, x9, [x6], #16
    0xd10004e7, // b8        sub  x7, x7, #1
    0xb5ffffa7, // bc        cbnz x7, copy
    0xf94000a8, // c0        ldr  x8, [x5]
    0xf9001448, // c4        str  x8, [x2, #40]
    0xd65f03c0, // c8 out:   ret
  ]).buffer,
);
