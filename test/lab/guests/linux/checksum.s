// A Linux program whose sum over registers and memory is the same whether the machine is debugged or not: each round makes
// the kernel work for it in every way that needs no interrupt. Run as init; prints `SUM` and the sum, and powers off.
//
// x19 memory, x20 and x21 the ends of a pipe, x25 rounds left, x28 the sum. System calls are those of Linux
// include/uapi/asm-generic/unistd.h.

	.arch armv8-a
	.text

	.macro	fold register
	ror	x28, x28, #59
	add	x28, x28, \register
	.endm

	.macro	call number
	mov	x8, #\number
	svc	#0
	.endm

	.set	OPENAT, 56
	.set	CLOSE, 57
	.set	PIPE2, 59
	.set	LSEEK, 62
	.set	READ, 63
	.set	WRITE, 64
	.set	FUTEX, 98
	.set	RT_SIGACTION, 134
	.set	REBOOT, 142
	.set	GETPID, 172
	.set	MUNMAP, 215
	.set	MMAP, 222
	.set	MPROTECT, 226

start:	mov	x28, #0
	bl	map
	mov	x19, x0
	mov	x1, #0
	call	PIPE2
	ldp	w20, w21, [x19]
	mov	x22, #4			// SIGILL
	bl	handle
	mov	x22, #5			// SIGTRAP
	bl	handle
	mov	x22, #11		// SIGSEGV
	bl	handle
	mov	x25, #8

begin:
round:	call	GETPID
	fold	x0

	// Through the pipe.
	mov	x2, #512
	add	x3, x19, #0x400
1:	sub	x2, x2, #8
	madd	x4, x2, x28, x25
	str	x4, [x3, x2]
	cbnz	x2, 1b
	mov	x0, x21
	mov	x1, x3
	mov	x2, #512
	call	WRITE
	fold	x0
	mov	x0, x20
	add	x1, x19, #0x800
	mov	x2, #512
	call	READ
	fold	x0
	mov	x2, #512
	add	x3, x19, #0x800
1:	sub	x2, x2, #8
	ldr	x4, [x3, x2]
	fold	x4
	cbnz	x2, 1b

	// Its own file, by name.
	mov	x0, #-100		// AT_FDCWD
	adr	x1, name
	mov	x2, #0
	call	OPENAT
	mov	x23, x0
	fold	x0
	mov	x1, #0x40
	mov	x2, #0
	call	LSEEK
	mov	x0, x23
	add	x1, x19, #0x800
	mov	x2, #64
	call	READ
	fold	x0
	ldr	x4, [x19, #0x838]
	fold	x4
	mov	x0, x23
	call	CLOSE
	fold	x0

	// Memory that comes when it is touched, and is then not to be written to.
	bl	map
	mov	x23, x0
	str	x25, [x23, #16]
	ldr	x4, [x23, #0x1000]
	fold	x4
	mov	x1, #0x2000
	mov	x2, #1			// PROT_READ
	call	MPROTECT
	fold	x0
	str	x28, [x23, #24]		// SIGSEGV
	ldp	x4, x5, [x23, #16]
	fold	x4
	fold	x5
	mov	x0, x23
	mov	x1, #0x2000
	call	MUNMAP
	fold	x0
	ldr	x4, [x23]		// SIGSEGV

	// What the kernel takes or emulates.
	brk	#0x77			// SIGTRAP
	udf	#0x77			// SIGILL
	mrs	x0, id_aa64isar0_el1
	fold	x0
	mrs	x0, ctr_el0
	fold	x0
	wfe
	wfi
	mov	x0, x19
	mov	x1, #1			// FUTEX_WAKE
	mov	x2, #1
	call	FUTEX
	fold	x0

	// And what it does itself.
	add	x9, x19, #0xc00
1:	ldaxr	x0, [x9]
	add	x0, x0, x25
	stlxr	w1, x0, [x9]
	cbnz	w1, 1b
	fold	x0
	scvtf	d0, x25
	fsqrt	d0, d0
	fmov	x0, d0
	fold	x0
	subs	x25, x25, #1
	mrs	x0, nzcv
	fold	x0
	b.ne	round

	adr	x1, text
	add	x9, x19, #0x100
	ldr	w0, [x1]
	str	w0, [x9], #4
	mov	x2, #16
1:	ror	x28, x28, #60
	and	w0, w28, #15
	cmp	w0, #10
	add	w1, w0, #'0'
	add	w0, w0, #'a' - 10
	csel	w0, w1, w0, lo
	strb	w0, [x9], #1
	sub	x2, x2, #1
	cbnz	x2, 1b
	mov	w0, #'\n'
	strb	w0, [x9]
	mov	x0, #1
	add	x1, x19, #0x100
	mov	x2, #21
	call	WRITE
	ldr	x0, =0xfee1dead		// LINUX_REBOOT_MAGIC1, MAGIC2, CMD_POWER_OFF
	ldr	x1, =672274793
	ldr	x2, =0x4321fedc
	mov	x3, #0
	call	REBOOT
	b	.

// Two pages of anonymous memory.
map:	mov	x0, #0
	mov	x1, #0x2000
	mov	x2, #3			// PROT_READ | PROT_WRITE
	mov	x3, #0x22		// MAP_PRIVATE | MAP_ANONYMOUS
	mov	x4, #-1
	mov	x5, #0
	call	MMAP
	ret

// Has signal x22 caught: struct sigaction of handler, flags, restorer, mask.
handle:	adr	x0, caught
	mov	x1, #4			// SA_SIGINFO
	stp	x0, x1, [x19, #0x100]
	stp	xzr, xzr, [x19, #0x110]
	mov	x0, x22
	add	x1, x19, #0x100
	mov	x2, #0
	mov	x3, #8
	call	RT_SIGACTION
	ret

// x0 signal, x1 siginfo, x2 ucontext, with x28 at 408, pc at 440 and pstate at 448 (arch/arm64 asm/ucontext.h,
// asm/sigcontext.h).
caught:	ldr	x28, [x2, #408]
	fold	x0
	ldp	x3, x4, [x1]		// si_signo, si_errno, si_code
	fold	x3
	fold	x4
	ldr	x3, [x1, #16]		// si_addr
	fold	x3
	ldp	x3, x4, [x2, #440]
	fold	x3
	and	x4, x4, #0xf0000000	// SSBS: since the last switch of tasks (spectre_v4_enable_task_mitigation)
	fold	x4
	str	x28, [x2, #408]
	add	x3, x3, #4
	str	x3, [x2, #440]
	ret

name:	.asciz	"/init"
	.balign	4
text:	.ascii	"SUM "
