// A guest whose sums over registers and memory are the same whether it is debugged or not: each round goes through every
// kind of instruction that a debugger could step wrongly, with the timer's interrupt coming all the while.
//
// checksum: x0 rounds, x1 and x2 distributor and first redistributor of the GICv3, x3 a byte of a device that can be
// written and read back. Ends at `idle`, with the sums in `sums` and the registers in `registers`.
//
// Reserved: x22 from an address here to its alias in guarded pages, x23 to its alias at EL0, x24 features, x25 rounds
// left, x26 the device, x27 `sums`, x28 the sum at work.

	.arch armv8.5-a
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

	.macro	fold register
	ror	x28, x28, #59
	add	x28, x28, \register
	.endm

// The sum of what lies between is number \n.
	.macro	class n
	ldr	x28, [x27, #8 * \n]
	.endm
	.macro	end n
	str	x28, [x27, #8 * \n]
	.endm

	.set	INTERRUPTS, 31		// counted there; not one of the sums
	.set	ATOMICS, 0		// bits of x24: FEAT_LSE
	.set	PAN, 1			// FEAT_PAN
	.set	PAUTH, 2		// FEAT_PAuth
	.set	BTI, 3			// FEAT_BTI
	.set	UNMAPPED, 0x300000000	// the 12th GiB

checksum:
	mov	x25, x0
	mov	x26, x3
	adr	x27, sums
	adr	x4, stack
	mov	sp, x4
	sub	x4, x4, #0x400
	msr	sp_el0, x4
	adr	x4, vectors
	msr	vbar_el1, x4
	mov	x4, #3 << 20		// CPACR_EL1.FPEN
	msr	cpacr_el1, x4

	// Blocks of 1 GiB: devices in the first, this one where it is, again for EL0 in the ninth, guarded in the tenth.
	adr	x4, sums
	and	x5, x4, #~((1 << 30) - 1)
	mov	x23, #8 << 30
	sub	x23, x23, x5
	ldr	x22, =9 << 30
	sub	x22, x22, x5
	adr	x6, tables
	ldr	x7, =0x0060000000000405	// UXN PXN AF AttrIndx 1
	str	x7, [x6]
	ldr	x7, =0x0040000000000701	// UXN AF SH inner
	orr	x7, x7, x5
	lsr	x8, x5, #30
	str	x7, [x6, x8, lsl #3]
	ldr	x7, =0x0020000000000741	// PXN AF SH inner AP[1]
	orr	x7, x7, x5
	str	x7, [x6, #8 * 8]
	ldr	x7, =0x0044000000000701	// UXN GP AF SH inner
	orr	x7, x7, x5
	str	x7, [x6, #8 * 9]
	msr	ttbr0_el1, x6
	mov	x7, #0xff		// 0 Normal write-back, 1 Device-nGnRnE
	msr	mair_el1, x7
	ldr	x7, =0x200803519	// T0SZ 25, write-back, SH inner, EPD1, IPS 40 bits
	msr	tcr_el1, x7
	dsb	sy
	isb
	tlbi	vmalle1
	dsb	sy
	isb

	mov	x24, #0
	mrs	x4, id_aa64isar0_el1
	ubfx	x4, x4, #20, #4
	cbz	x4, 1f
	orr	x24, x24, #1 << ATOMICS
1:	mrs	x4, id_aa64mmfr1_el1
	ubfx	x4, x4, #20, #4
	cbz	x4, 1f
	orr	x24, x24, #1 << PAN
1:	ldr	x7, =0x30d51805		// M C I nTWI nTWE, and what is RES1
	mrs	x4, id_aa64isar1_el1
	ubfx	x4, x4, #4, #8		// APA, API
	cbz	x4, 1f
	orr	x24, x24, #1 << PAUTH
	ldr	x5, =0x0123456789abcdef
	msr	apiakeylo_el1, x5
	msr	apiakeyhi_el1, x5
	orr	x7, x7, #1 << 31	// EnIA
1:	mrs	x4, id_aa64pfr1_el1
	and	x4, x4, #0xf		// BT
	cbz	x4, 1f
	orr	x24, x24, #1 << BTI
	orr	x7, x7, #1 << 36	// BT1
1:	msr	sctlr_el1, x7
	isb

	mov	x4, #7
	msr	icc_sre_el1, x4
	isb
	mov	w4, #0x12		// GICD_CTLR.ARE, EnableGrp1
	str	w4, [x1]
	ldr	w4, [x2, #0x14]		// GICR_WAKER.ProcessorSleep
	and	w4, w4, #~2
	str	w4, [x2, #0x14]
	add	x5, x2, #0x10, lsl #12	// SGI_base
	mov	w4, #-1
	str	w4, [x5, #0x80]		// GICR_IGROUPR0
	mov	w4, #1 << 27		// the virtual timer, PPI 27
	str	w4, [x5, #0x100]	// GICR_ISENABLER0
	mov	x4, #0xf0
	msr	icc_pmr_el1, x4
	mov	x4, #1
	msr	icc_igrpen1_el1, x4
	msr	cntv_cval_el0, xzr
	msr	cntv_ctl_el0, x4
	isb
	msr	daifclr, #0xf

round:
	class	1			// integers, flags, vectors
	mov	x0, #0x7c15
	movk	x0, #0x9e37, lsl #48
	mul	x1, x0, x25
	umulh	x2, x1, x0
	adds	x3, x1, x2
	adcs	x4, x2, xzr
	ccmp	x3, x4, #0b0101, cs
	csinc	x5, x3, x4, lt
	mrs	x6, nzcv
	fold	x1
	fold	x5
	fold	x6
	fmov	d0, x1
	dup	v1.2d, x2
	mul	v2.4s, v0.4s, v1.4s
	scvtf	d3, x25
	fsqrt	d3, d3
	fmov	x7, d2
	fold	x7
	fmov	x7, d3
	fold	x7
	end	1

	class	2			// exclusive sequences, with each way to branch
	add	x9, x27, #0x200
1:	ldxr	x0, [x9]
inside:	add	x0, x0, #3
	stxr	w1, x0, [x9]
	cbnz	w1, 1b
	fold	x0
	add	x10, x9, #8
1:	ldaxr	w0, [x10]
	cmp	w0, w25
	b.eq	2f
	add	w0, w0, #1
	stlxr	w1, w0, [x10]
	tbnz	w1, #0, 1b
2:	clrex
	fold	x0
	add	x11, x9, #16
1:	ldxp	x0, x1, [x11]
	adds	x0, x0, x25
	adc	x1, x1, xzr
	cbz	x0, 2f
	stxp	w2, x0, x1, [x11]
	cmp	w2, #0
	b.ne	1b
2:	fold	x0
	fold	x1
	add	x12, x9, #32
1:	ldaxrb	w0, [x12]
	tbz	w25, #0, 2f
	eor	w0, w0, w25
2:	stxrb	w1, w0, [x12]
	cbnz	w1, 1b
	fold	x0
1:	ldxr	x0, [x9]		// compare and exchange that fails
	cmp	x0, #0
	b.ne	2f
	stxr	w1, xzr, [x9]
	cbnz	w1, 1b
2:	fold	x0
	tbz	x24, #ATOMICS, 1f
	ldadd	x25, x0, [x9]
	fold	x0
	mov	x2, x0
	mov	x3, x1
	caspal	x2, x3, x4, x5, [x11]
	fold	x2
1:	end	2

	class	3			// the interrupt masks
	mrs	x0, daif
	fold	x0
	msr	daifset, #0xf
	mrs	x0, daif
	fold	x0
	msr	daifclr, #2
	mrs	x0, daif
	fold	x0
	msr	daifclr, #0xd
	mrs	x0, daif
	fold	x0
	mov	x1, #0x80
	msr	daif, x1
	mrs	x0, daif
	fold	x0
	msr	daif, xzr
	mrs	x0, daif
	fold	x0
	msr	spsel, #0
	mrs	x0, spsel
	fold	x0
	mov	x0, sp
	fold	x0
	mrs	x0, daif
	fold	x0
	svc	#2
	brk	#0x54
	msr	spsel, #1
	tbz	x24, #PAN, 1f
	msr	pan, #1
	svc	#3
	mrs	x0, pan
	fold	x0
	msr	pan, #0
1:	end	3

	class	4			// calls to the hypervisor, exceptions of every kind
	svc	#4
	mov	x0, #0x84000000		// PSCI_VERSION
	hvc	#0
	fold	x0
	mov	x0, #0x84000000
	smc	#0
	fold	x0
	brk	#0x55
	udf	#0x77
	ldr	x7, =UNMAPPED
	ldr	x0, [x7]
	str	x25, [x7, #16]
	ldr	x0, [x7, #8]!
	fold	x7
	ldp	x0, x1, [x7], #16
	fold	x7
	add	x8, x27, #0x201
	ldxr	x0, [x8]
	blr	x7
	fold	x30
	adr	x8, round
	orr	x8, x8, #2
	blr	x8
	fold	x30
	end	4

	class	5			// exception returns
	adr	x0, user
	add	x0, x0, x23
	msr	daifset, #2		// an interrupt would leave its own in ELR_EL1 and SPSR_EL1
	msr	elr_el1, x0
	msr	spsr_el1, xzr
	adr	x30, 1f
	eret
1:	fold	x0
	fold	x1
	mrs	x2, daif
	fold	x2
	adr	x0, user
	add	x0, x0, x23
	msr	daifset, #2
	msr	elr_el1, x0
	ldr	x1, =0x90000340
	msr	spsr_el1, x1
	adr	x30, 1f
	eret
1:	fold	x0
	adr	x0, 1f
	msr	daifset, #2
	msr	elr_el1, x0
	ldr	x0, =0x60000044		// EL1t, F
	msr	spsr_el1, x0
	eret
1:	mrs	x0, spsel
	fold	x0
	mrs	x0, daif
	fold	x0
	mrs	x0, nzcv
	fold	x0
	mrs	x0, spsr_el1		// as it was left
	msr	daifset, #2
	adr	x1, 1f
	msr	elr_el1, x1
	mov	x0, #0x5
	msr	spsr_el1, x0
	eret
1:	mrs	x0, daif
	fold	x0
	adr	x0, 1f			// there is no EL2 to return to: the state is illegal
	msr	daifset, #2
	msr	elr_el1, x0
	mov	x0, #0x9
	msr	spsr_el1, x0
	eret
1:	mrs	x0, daif
	fold	x0
	end	5

	class	6			// waiting
	msr	daifset, #2
	wfi
	mrs	x0, daif
	fold	x0
	msr	daifclr, #2
	sevl
	wfe
	wfe
	yield
	end	6

	class	7			// pointer authentication and branch targets
	adr	x30, round
	mov	x9, x30
	hint	#25			// PACIASP
	mov	x10, x30
	hint	#29			// AUTIASP
	cmp	x9, x30
	cset	x0, eq
	fold	x0
	mov	x30, x10
	hint	#7			// XPACLRI
	fold	x30
	tbz	x24, #PAUTH, 1f
	fold	x10
	adr	x11, 1f
	mov	x12, #0x77
	pacia	x11, x12
	fold	x11
	braa	x11, x12
1:	adr	x0, guarded
	add	x0, x0, x22
	blr	x0
	add	x0, x0, #4		// not a branch target
	blr	x0
	fold	x0
	end	7

	class	8			// a device that the VMM emulates
	strb	w25, [x26]
	ldrb	w0, [x26]
	fold	x0
	end	8

	class	9			// branches and calls
	and	x0, x25, #3
	adr	x1, 2f
	add	x1, x1, x0, lsl #3
	br	x1
2:	mov	x2, #5
	b	3f
	mov	x2, #7
	b	3f
	mov	x2, #11
	b	3f
	mov	x2, #13
3:	fold	x2
	and	x0, x25, #7
	bl	sum
	fold	x0
	mov	x3, #5
4:	sub	x3, x3, #1
	cbnz	x3, 4b
	end	9

	subs	x25, x25, #1
	b.ne	round

	msr	daifset, #0xf
	str	x30, [x27, #0x400 + 8 * 30]
	add	x30, x27, #0x400
	stp	x0, x1, [x30]
	stp	x2, x3, [x30, #16]
	stp	x4, x5, [x30, #32]
	stp	x6, x7, [x30, #48]
	stp	x8, x9, [x30, #64]
	stp	x10, x11, [x30, #80]
	stp	x12, x13, [x30, #96]
	stp	x14, x15, [x30, #112]
	stp	x16, x17, [x30, #128]
	stp	x18, x19, [x30, #144]
	stp	x20, x21, [x30, #160]
	stp	x22, x23, [x30, #176]
	stp	x24, x25, [x30, #192]
	stp	x26, x27, [x30, #208]
	stp	x28, x29, [x30, #224]
	stp	q0, q1, [x30, #256]
	stp	q2, q3, [x30, #288]
	mov	x0, sp
	mrs	x1, nzcv
	stp	x0, x1, [x30, #320]
	mrs	x0, sp_el0
	mrs	x1, spsel
	stp	x0, x1, [x30, #336]
idle:	wfi
	b	idle

// x0 + (x0 - 1) + … by recursion.
sum:	cbz	x0, 1f
	stp	x0, x30, [sp, #-16]!
	sub	x0, x0, #1
	bl	sum
	ldp	x1, x30, [sp], #16
	add	x0, x0, x1
1:	ret

guarded:
	bti	c
	adr	x0, guarded
	ret

// At EL0, in the alias.
user:	fold	x25
	mov	x0, #1
	svc	#5
	brk	#0x56
	mrs	x0, daif		// SCTLR_EL1.UMA is 0: refused
	ldr	x7, =UNMAPPED
	ldr	x1, [x7, #32]
	ldr	x1, [x27]		// not for EL0
	add	x9, x27, #0x240
	add	x9, x9, x23
1:	ldxr	x1, [x9]
	add	x1, x1, x25
	stlxr	w2, x1, [x9]
	cbnz	w2, 1b
	mrs	x2, nzcv
	fold	x2
	wfe
	svc	#1

	.ltorg

// An exception adds what it sees to sum 0, and goes on behind the instruction.
sync:	stp	x0, x1, [sp, #-64]!
	stp	x2, x3, [sp, #16]
	stp	x4, x28, [sp, #32]
	class	0
	mrs	x0, esr_el1
	mrs	x1, elr_el1
	mrs	x2, spsr_el1
	fold	x0
	fold	x1
	fold	x2
	mrs	x3, daif
	fold	x3
	mrs	x3, currentel
	fold	x3
	mrs	x3, spsel
	fold	x3
	lsr	x3, x0, #26
	bic	x4, x3, #1
	bic	x4, x4, #4
	cmp	x4, #0x20		// aborts: 0x20, 0x21, 0x24, 0x25
	b.ne	1f
	mrs	x4, far_el1
	fold	x4
1:	end	0
	cmp	x3, #0x15		// SVC
	b.eq	call
	and	x4, x3, #0x3e
	cmp	x4, #0x20		// instruction abort
	b.eq	back
	cmp	x3, #0x22		// PC alignment
	b.eq	back
	cmp	x3, #0x0e		// illegal execution state: again without PSTATE.IL
	b.eq	legal
	cmp	x3, #0x0d		// branch target: again without PSTATE.BTYPE
	b.eq	target
	add	x1, x1, #4
	b	leave
call:	and	x0, x0, #0xffff
	cmp	x0, #1
	b.ne	leave
	mov	x2, #0x5
back:	mov	x1, x30
	b	leave
legal:	bic	x2, x2, #1 << 20
	b	leave
target:	bic	x2, x2, #3 << 10
leave:	msr	elr_el1, x1
	msr	spsr_el1, x2
	ldp	x4, x28, [sp, #32]
	ldp	x2, x3, [sp, #16]
	ldp	x0, x1, [sp], #64
	eret

// Interrupts leave no trace but their number.
irq:	stp	x0, x1, [sp, #-16]!
	mrs	x0, icc_iar1_el1
	ldr	x1, [x27, #8 * INTERRUPTS]
	add	x1, x1, #1
	str	x1, [x27, #8 * INTERRUPTS]
	mrs	x1, cntvct_el0
	add	x1, x1, #64, lsl #12	// 4 ms at 62.5 MHz: more often, an emulated guest does nothing else
	msr	cntv_cval_el0, x1
	msr	icc_eoir1_el1, x0
	isb
	ldp	x0, x1, [sp], #16
	eret

other:	brk	#0xffe
	b	other

	.macro	vector handler
	.balign	0x80
	nop
	nop
	b	\handler
	.endm

	.balign	0x800
vectors:
	.rept	3			// EL1t, EL1h, EL0
	vector	sync
	vector	irq
	vector	other
	vector	other
	.endr
	.rept	4
	vector	other
	.endr

// Memory behind the image, zero at first.
	.balign	0x1000
	.set	tables, .
	.set	sums, . + 0x1000
	.set	registers, . + 0x1400
	.set	stack, . + 0x4000
