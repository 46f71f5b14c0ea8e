// A guest that uses the debug exceptions itself, and code to try a debugger's on. The cases are those of Linux
// tools/testing/selftests/kvm/arm64/debug-exceptions.c and of kvm-unit-tests arm/debug.c.
//
// Whoever sends a vCPU to a routine gives it VBAR_EL1 = vectors, both stack pointers, and in x28 the place of the first
// record: each exception stores { vector, ESR, ELR, SPSR, FAR of a watchpoint, MDSCR }, and does what lets the code go on.
//
// Debug registers: Arm ARM (DDI 0487) D24.3; debug exceptions: D2.

	.arch armv8-a
	.text

// The header of Linux Documentation/arm64/booting.rst.
	b	start
	.word	0
	.quad	0		// text_offset
	.quad	0x200000	// image_size
	.quad	0b1010		// flags: 4 KiB pages, anywhere
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.word	0

start:	brk	#0xf00
	b	start

	.set	BREAK_EL1, 0x1e3	// DBGBCR: E, PMC 01 (EL1), BAS 1111
	.set	WATCH_EL1, 0x1ffb	// DBGWCR: E, PAC 01 (EL1), LSC 11, BAS 11111111
	.set	LINKED, 1 << 20		// DBGBCR.BT 0001, DBGWCR.WT: linked to the breakpoint LBN names
	.set	CONTEXT, 3 << 20	// DBGBCR.BT 0011: CONTEXTIDR_EL1, to be linked to
	.set	LBN, 16
	.set	MDSCR_SS, 1 << 0
	.set	MDSCR_KDE, 1 << 13
	.set	MDSCR_MDE, 1 << 15

// own: the guest's own debug exceptions, with each of x1 choices in the table at x0: { breakpoint, watchpoint,
// context-aware breakpoint, 0 }. Ends at `idle`.
own:	mov	x20, x0
	mov	x21, x1
ownNext:
	cbz	x21, ownEnd
	sub	x21, x21, #1
	ldp	x22, x23, [x20], #16
	ldp	x24, xzr, [x20], #16

	bl	reset
ownBrk:	brk	#0x70

	bl	reset
	adr	x10, ownHit
	bl	breakAt
ownHit:	nop

	bl	reset
	adr	x10, ownSvc
	bl	breakAt
ownSvc:	svc	#0x71

	bl	reset
	adr	x10, ownBoth
	bl	breakAt
ownBoth:
	brk	#0x72

	bl	reset
	adr	x10, scratch
	bl	watchAt
	adr	x0, scratch
ownStore:
	str	x21, [x0]
	msr	daifclr, #8
ownLoad:
	ldr	x1, [x0]

	bl	reset
	bl	singleStep
	msr	daifclr, #8
ownStepped:
	mrs	x0, esr_el1
	add	x0, x0, #1
	msr	daifset, #8

	// The OS Lock disables all of them but breakpoint instructions (D2.2).
	bl	reset
	bl	lock
ownLockedBrk:
	brk	#0x73

	bl	reset
	bl	lock
	adr	x10, 1f
	bl	breakAt
1:	nop

	bl	reset
	bl	lock
	adr	x10, scratch
	bl	watchAt
	adr	x0, scratch
	str	x21, [x0]

	bl	reset
	bl	lock
	bl	singleStep
	msr	daifclr, #8
	mrs	x0, esr_el1
	add	x0, x0, #1
	msr	daifset, #8

	// Linked to a context: hit in that, not in another.
	bl	reset
	bl	context
	adr	x10, ownLinked
	mov	x9, x22
	mov	x12, #BREAK_EL1
	orr	x11, x11, x12
	bl	writeBreak
	isb
	bl	monitor
	bl	linked
	mov	x0, #0xcd
	msr	contextidr_el1, x0
	isb
	bl	linked

	bl	reset
	bl	context
	adr	x10, scratch
	mov	x9, x23
	mov	x12, #WATCH_EL1
	orr	x11, x11, x12
	bl	writeWatch
	isb
	bl	monitor
	adr	x0, scratch
ownLinkedStore:
	str	x21, [x0]
	msr	daifclr, #8
	mov	x1, #0xcd
	msr	contextidr_el1, x1
	isb
	str	x21, [x0]

	// All breakpoints at instructions in a row.
	bl	reset
	adr	x10, ownLine
	mov	x11, #BREAK_EL1
	mov	x9, #0
1:	bl	writeBreak
	add	x10, x10, #4
	add	x9, x9, #1
	ubfx	x14, x13, #12, #4
	cmp	x9, x14
	b.ls	1b
	isb
	bl	monitor
ownLine:
	.rept	16
	msr	daifclr, #8
	.endr
	b	ownNext
ownEnd:	bl	reset
idle:	wfi
	b	idle

linked:	msr	daifclr, #8
ownLinked:
	nop
	ret

// All registers zero, unlocked, debug exceptions masked; leaves ID_AA64DFR0_EL1 in x13.
reset:	mov	x29, x30
	msr	daifset, #8
	msr	osdlr_el1, xzr
	msr	oslar_el1, xzr
	isb
	msr	mdscr_el1, xzr
	msr	contextidr_el1, xzr
	mov	x10, #0
	mov	x11, #0
	mrs	x13, id_aa64dfr0_el1
	ubfx	x9, x13, #12, #4	// BRPs, minus 1
1:	bl	writeBreak
	subs	x9, x9, #1
	b.pl	1b
	ubfx	x9, x13, #20, #4	// WRPs, minus 1
1:	bl	writeWatch
	subs	x9, x9, #1
	b.pl	1b
	isb
	ret	x29

breakAt:
	mov	x29, x30
	mov	x9, x22
	mov	x11, #BREAK_EL1
	bl	writeBreak
	isb
	mov	x30, x29
monitor:
	msr	daifclr, #8
	mrs	x10, mdscr_el1
	orr	x10, x10, #MDSCR_KDE
	orr	x10, x10, #MDSCR_MDE
	msr	mdscr_el1, x10
	isb
	ret

watchAt:
	mov	x29, x30
	mov	x9, x23
	mov	x11, #WATCH_EL1
	bl	writeWatch
	isb
	mov	x30, x29
	b	monitor

singleStep:
	mrs	x10, mdscr_el1
	orr	x10, x10, #MDSCR_KDE
	orr	x10, x10, #MDSCR_SS
	msr	mdscr_el1, x10
	isb
	ret

lock:	mov	x10, #1
	msr	oslar_el1, x10
	isb
	ret

// Breakpoint x24 matches CONTEXTIDR_EL1; leaves in x11 what links to it.
context:
	mov	x29, x30
	mov	x9, x24
	mov	x10, #0xab
	msr	contextidr_el1, x10
	ldr	x11, =CONTEXT | BREAK_EL1
	bl	writeBreak
	lsl	x11, x24, #LBN
	orr	x11, x11, #LINKED
	ret	x29

// The pair of number x9: value x10, control x11.
	.macro	write name, n
	msr	dbg\name\()vr\n\()_el1, x10
	msr	dbg\name\()cr\n\()_el1, x11
	.endm
	.macro	read name, n
	mrs	x10, dbg\name\()vr\n\()_el1
	mrs	x11, dbg\name\()cr\n\()_el1
	.endm
	.macro	pairs access, name
	adr	x12, 1f
	add	x12, x12, x9, lsl #4
	br	x12
1:	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	\access	\name, \n
	ret
	nop
	.endr
	.endm
writeBreak:
	pairs	write, b
writeWatch:
	pairs	write, w
readBreak:
	pairs	read, b
readWatch:
	pairs	read, w

// hold: writes the debug registers from the table at x0, of 16 breakpoints' and 16 watchpoints' { value, control }, then
// { MDSCR, CONTEXTIDR }, and reads them for ever. x19 counts rounds, x26 differences; each is a record of { offset in the
// table, 0, value, control, 0, 0 }. MDSCR.KDE is turned over in each round.
hold:	mov	x20, x0
	mov	x19, #0
	mov	x26, #0
	bl	reset
	ubfx	x21, x13, #12, #4
	ubfx	x22, x13, #20, #4
	mov	x9, x21
1:	add	x14, x20, x9, lsl #4
	ldp	x10, x11, [x14]
	bl	writeBreak
	subs	x9, x9, #1
	b.pl	1b
	add	x23, x20, #0x100
	mov	x9, x22
1:	add	x14, x23, x9, lsl #4
	ldp	x10, x11, [x14]
	bl	writeWatch
	subs	x9, x9, #1
	b.pl	1b
	add	x24, x20, #0x200
	ldp	x10, x11, [x24]
	msr	mdscr_el1, x10
	msr	contextidr_el1, x11
	isb
holding:
	mov	x9, x21
1:	bl	readBreak
	add	x14, x20, x9, lsl #4
	bl	compare
	subs	x9, x9, #1
	b.pl	1b
	mov	x9, x22
1:	bl	readWatch
	add	x14, x23, x9, lsl #4
	bl	compare
	subs	x9, x9, #1
	b.pl	1b
	mov	x14, x24
	mrs	x10, mdscr_el1
	mrs	x11, contextidr_el1
	bl	compare
	ldr	x10, [x24]
	eor	x10, x10, #MDSCR_KDE
	str	x10, [x24]
	msr	mdscr_el1, x10
	isb
	add	x19, x19, #1
	b	holding

compare:
	ldp	x15, x16, [x14]
	cmp	x10, x15
	ccmp	x11, x16, #0, eq
	b.eq	1f
	add	x26, x26, #1
	sub	x14, x14, x20
	stp	x14, xzr, [x28], #16
	stp	x10, x11, [x28], #16
	stp	xzr, xzr, [x28], #16
1:	ret

// written: x0 rounds of writes to system registers and reads of what was written; x26 counts what does not read back.
// Each bit of the number of the round is one of MDSCR.
written:
	mov	x20, x0
	mov	x21, #0
	mov	x26, #0
	bl	reset
writtenRound:
	lsl	x1, x21, #2
	and	x2, x21, #1
	ubfx	x3, x21, #1, #1
	orr	x2, x2, x3, lsl #13
	ubfx	x3, x21, #2, #1
	orr	x2, x2, x3, lsl #15
writtenBegin:
	nop
	msr	dbgbvr0_el1, x1
	msr	mdscr_el1, x2
	mrs	x3, mdscr_el1
	msr	dbgwvr0_el1, x1
	mrs	x4, mdscr_el1
	mrs	x5, dbgbvr0_el1
	mrs	x6, dbgwvr0_el1
	msr	mdscr_el1, xzr
	msr	mdscr_el1, x2
	msr	contextidr_el1, x21
	mrs	x7, mdscr_el1
	mrs	x8, contextidr_el1
	isb
writtenEnd:
	.irp	n, 3, 4, 7
	cmp	x\n, x2
	cinc	x26, x26, ne
	.endr
	.irp	n, 5, 6
	cmp	x\n, x1
	cinc	x26, x26, ne
	.endr
	cmp	x8, x21
	cinc	x26, x26, ne
	add	x21, x21, #1
	cmp	x21, x20
	b.ne	writtenRound
	bl	reset
	brk	#0xf15

// Something to stop at.
points:	nop
pointBreak:
	add	x19, x19, #1
pointWatch:
	str	x19, [x0], #8
	brk	#0xf10

call:	svc	#0x21
	brk	#0xf11

row:	brk	#0x74
	brk	#0x75
	brk	#0x76
	brk	#0xf12

// Accesses that show whether they were executed, and how often.
storeAfter:
	str	x3, [x0], #8
	brk	#0xf13
storeBefore:
	str	x3, [x0, #8]!
	brk	#0xf13
storePair:
	stp	x3, x4, [x0], #16
	brk	#0xf13
loadAfter:
	ldr	x5, [x0], #8
	brk	#0xf13
loadPair:
	ldp	x5, x6, [x0], #16
	brk	#0xf13
storeExclusive:
	ldaxr	x5, [x0]
	add	x5, x5, #1
storeExclusiveAt:
	stlxr	w6, x5, [x0]
	cbnz	w6, storeExclusive
	brk	#0xf13

// alternate: starts the second vCPU, and both go round a loop. x19 counts rounds, x20 grows by x21 in each, x22 is DAIF.
alternate:
	ldr	w0, =0xc4000003		// PSCI CPU_ON (Arm DEN 0022)
	mov	x1, #1
	adr	x2, second
	mov	x3, #0
	hvc	#0
second:	mov	x19, #0
	mov	x20, #0
	mov	x22, #0
together:
	add	x19, x19, #1
	add	x20, x20, x21
	mrs	x22, daif
	b	together

	.ltorg

	.macro	vector offset, handler
	.balign	0x80
	stp	x0, x1, [sp, #-32]!
	mov	x0, #\offset
	b	\handler
	.endm

sync:	stp	x2, x3, [sp, #16]
	mrs	x1, esr_el1
	stp	x0, x1, [x28], #16
	mrs	x2, elr_el1
	mrs	x3, spsr_el1
	stp	x2, x3, [x28], #16
	mov	x2, #0
	ubfx	x0, x1, #26, #6		// EC
	and	x0, x0, #0x3e
	cmp	x0, #0x34
	b.ne	1f
	mrs	x2, far_el1
1:	mrs	x1, mdscr_el1
	stp	x2, x1, [x28], #16
	cmp	x0, #0x30		// breakpoint
	b.eq	masked
	cmp	x0, #0x34		// watchpoint
	b.eq	masked
	cmp	x0, #0x32		// software step
	b.eq	stepped
	cmp	x0, #0x3c		// BRK
	b.eq	passed
	cmp	x0, #0x14		// SVC is 0x15
	b.eq	leave
	brk	#0xffd
masked:	orr	x3, x3, #1 << 9		// SPSR.D
	b	leave
stepped:
	orr	x3, x3, #1 << 21	// SPSR.SS
	b	leave
passed:	mrs	x2, elr_el1
	add	x2, x2, #4
	msr	elr_el1, x2
leave:	msr	spsr_el1, x3
	ldp	x2, x3, [sp, #16]
	ldp	x0, x1, [sp], #32
	eret

other:	brk	#0xffe
	b	other

	.balign	0x800
vectors:
	.irp	source, 0x000, 0x200, 0x400, 0x600
	vector	\source, sync
	vector	\source + 0x080, other
	vector	\source + 0x100, other
	vector	\source + 0x180, other
	.endr

// Memory behind the image, zero at first.
	.balign	0x1000
	.set	scratch, . + 0x800
	.set	table, . + 0x1000
	.set	stack, . + 0x4000
	.set	stackEl0, . + 0x5000
	.set	records, . + 0x8000
