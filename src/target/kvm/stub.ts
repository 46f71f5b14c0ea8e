// The code that runs inside the VMM: a loop over a list of system calls, and a signal handler for the case that the
// tracer dies while a thread is in that loop.
//
// The list is an array of 64-byte entries { number, arguments[6], result }. Number -1 synchronises the instruction cache
// with [arguments[0], arguments[1]) instead; -2 stores (*arguments[0] & arguments[2]) | arguments[3] to *arguments[1],
// so that a register can be read, modified and written in one go. x19 points at the list, x20 counts it, x21 points at the saved
// state { x0-x30, sp, pc, pstate (as NT_PRSTATUS), signal mask }. The loop ends in a BRK for the tracer. With no tracer
// left the BRK raises SIGTRAP, whose handler puts the saved state into the signal frame: the thread goes on where it
// was taken from. A SIGTRAP from elsewhere (a perf event that outlived the tracer) is ignored.

/** Entry size and field offsets, bytes. */
export const entry = { size: 64, number: 0, argument: 8, result: 56 } as const;
export const syncInstructionCache = -1n;
export const mergeBits = -2n;

/** Bytes from the start of the code. */
export const stubSvc = 0x24n;
export const stubEnd = 0xb8n;
export const orphanHandler = 0xbcn;

export const stubCode = new Uint8Array(
  new Uint32Array([
    0xb40005d4, // 00 loop:  cbz  x20, done
    0xf9400268, // 04        ldr  x8, [x19]
    0xb100051f, // 08        cmn  x8, #1
    0x54000260, // 0c        b.eq sync
    0xb100091f, // 10        cmn  x8, #2
    0x54000120, // 14        b.eq merge
    0xa9408660, // 18        ldp  x0, x1, [x19, #8]
    0xa9418e62, // 1c        ldp  x2, x3, [x19, #24]
    0xa9429664, // 20        ldp  x4, x5, [x19, #40]
    0xd4000001, // 24        svc  #0
    0xf9001e60, // 28 store: str  x0, [x19, #56]
    0x91010273, // 2c        add  x19, x19, #64
    0xd1000694, // 30        sub  x20, x20, #1
    0x17fffff3, // 34        b    loop
    0xa9408660, // 38 merge: ldp  x0, x1, [x19, #8]
    0xa9418e62, // 3c        ldp  x2, x3, [x19, #24]
    0xf9400004, // 40        ldr  x4, [x0]
    0x8a020084, // 44        and  x4, x4, x2
    0xaa030084, // 48        orr  x4, x4, x3
    0xf9000024, // 4c        str  x4, [x1]
    0xd2800000, // 50        mov  x0, #0
    0x17fffff5, // 54        b    store
    0xa9408660, // 58 sync:  ldp  x0, x1, [x19, #8]
    0xd53b0022, // 5c        mrs  x2, ctr_el0   ; line sizes, log2 of words: DminLine 19:16, IminLine 3:0
    0xd2800084, // 60        mov  x4, #4
    0xd3504c43, // 64        ubfx x3, x2, #16, #4
    0x9ac32085, // 68        lsl  x5, x4, x3
    0xd10004a3, // 6c        sub  x3, x5, #1
    0x8a230006, // 70        bic  x6, x0, x3
    0xd50b7a26, // 74 clean: dc   cvac, x6      ; Arm ARM B2.7.4.2: clean to PoU, DSB, invalidate, DSB, ISB; to PoC, from
    //                              where a guest with its MMU off fetches
    0x8b0500c6, // 78        add  x6, x6, x5
    0xeb0100df, // 7c        cmp  x6, x1
    0x54ffffa3, // 80        b.lo clean
    0xd5033b9f, // 84        dsb  ish
    0x92400c43, // 88        and  x3, x2, #15
    0x9ac32085, // 8c        lsl  x5, x4, x3
    0xd10004a3, // 90        sub  x3, x5, #1
    0x8a230006, // 94        bic  x6, x0, x3
    0xd50b7526, // 98 inval: ic   ivau, x6
    0x8b0500c6, // 9c        add  x6, x6, x5
    0xeb0100df, // a0        cmp  x6, x1
    0x54ffffa3, // a4        b.lo inval
    0xd5033b9f, // a8        dsb  ish
    0xd5033fdf, // ac        isb
    0xd2800000, // b0        mov  x0, #0
    0x17ffffdd, // b4        b    store
    0xd4296880, // b8 done:  brk  #0x4b44
    // handler(signal, siginfo, ucontext): struct ucontext of arch/arm64/include/uapi/asm/ucontext.h and sigcontext.h:
    // uc_sigmask at 40, regs[31] at 184, sp at 432, pc at 440, pstate at 448.
    0xf940dc43, // bc        ldr  x3, [x2, #440]
    0x10ffffc4, // c0        adr  x4, done
    0xeb04007f, // c4        cmp  x3, x4
    0x54000141, // c8        b.ne out
    0xf940b045, // cc        ldr  x5, [x2, #352]; x21
    0x9102e046, // d0        add  x6, x2, #184
    0xd2800227, // d4        mov  x7, #17
    0xa8c124a8, // d8 copy:  ldp  x8, x9, [x5], #16
    0xa88124c8, // dc        stp  x8, x9, [x6], #16
    0xd10004e7, // e0        sub  x7, x7, #1
    0xb5ffffa7, // e4        cbnz x7, copy
    0xf94000a8, // e8        ldr  x8, [x5]
    0xf9001448, // ec        str  x8, [x2, #40]
    0xd65f03c0, // f0 out:   ret
  ]).buffer,
);
