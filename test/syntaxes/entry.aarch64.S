/* SPDX-License-Identifier: MIT */
/*
 * A vector table and a string routine, as the kernel writes them:
 * what the grammar has to tell apart is here once.
 */
#include <linux/linkage.h>
#include "sample.h"

#if defined(CONFIG_SAMPLE_TRACE) && CONFIG_SAMPLE_DEPTH >= 3
#define frame_size	(16 * 20)
#else
# define frame_size	0x100UL	/* smaller */
#endif

#define L(label)	.L ## label
#define save_pair(a, b, at)	\
	stp	a, b, [sp, #at];	\
	hint	#20

#if 0
	mov	x0, x1
#endif
# neither the preprocessor's nor an instruction

dst	.req	x0
word	.req	w4

	.macro	save_caller, el, size=b, spills=32, cond:req
	.if	\el == 0
	mrs	x21, sp_el0
	msr	daifset, #2			// no interrupts
	.elseif	\spills < 64
	mrs	x22, S3_0_C4_C0_0
	.endif
	stp	x29, x30, [sp, #-16]!
	ldr\size	w9, [x1], #4
	b.\cond	.Lslow_\@
	bl	el\el\()_handler
.Lslow_\@:
	.endm

	.pushsection ".entry.text", "ax", %progbits
	.balign	2048
SYM_CODE_START(sample_vectors)
	save_caller 1, spills=16, cond=eq
	.irp	reg, 2, 4, 6
	stp	x\reg, x3, [sp, #16 * \reg]
	.endr
	b	1f
	.fill	4, 4, 0xd503201f
SYM_CODE_END(sample_vectors)
	.popsection

SYM_FUNC_START_LOCAL(count_words)
	cbz	dst, L(done)
	adrp	x5, sample_table
	add	x5, x5, :lo12:sample_table
	movz	x6, #:abs_g1:sample_table
	movk	x6, #0xbeef, lsl #32
	ldr	x7, =sample_table
1:	ldrb	w3, [dst], #1
	cmp	w3, #' '
	ccmp	w3, #'\t', #4, ne
	cinc	x2, x2, eq
	csel	x8, x2, xzr, hi
	subs	x1, x1, #1
	b.ne	1b
L(done):
	ldp	q0, q1, [x5, #32]
	ldr	w6, [x5, w3, uxtw #2]
	fmov	d2, #1.5e+1
	ld1	{v3.16b, v4.16b}, [x5]
	tbl	v5.16b, {v3.16b}, v4.16b
	aese	v5.16b, v6.16b
	whilelo	p0.s, xzr, x2
	ld1w	z1.s, p0/z, [x5, x2, lsl #2]
	ldaddal	w3, word, [x9]
	crc32cx	w3, w3, x7
	prfm	pldl1strm, [x5, #256]
CPU_LE(	rev	x2, x2		)
USER(9f, ldtr	x3, [x1, #8])
	mov	x0, x2; ret
SYM_FUNC_END(count_words)
EXPORT_SYMBOL(count_words)
SYM_FUNC_ALIAS(__count_words, count_words)

SYM_FUNC_START(sample_mmu_on)
	bti	c
	alternative_if ARM64_HAS_SAMPLE
	dsb	nshst
	alternative_else_nop_endif
	msr	ttbr0_el1, x0
	mrs_s	x1, SYS_SAMPLE_EL1
	tlbi	vmalle1is
	dc	civac, x3
	at	s1e1r, x4
	isb
	tbnz	x1, #SAMPLE_BIT, 9f
	hvc	#0
	eret
9:	brk	#0x800
SYM_FUNC_END(sample_mmu_on)

	.section .rodata.str, "aMS", @progbits, 1
sample_table:
	.quad	sample_vectors, . - sample_table
	.byte	0b101, 017, 'a', -1
	.asciz	"counted %d\n\t\x41\" words"
sample_end = . - sample_table
	.type	sample_table, %object
	.size	sample_table, sample_end
SYM_DATA_LOCAL(sample_flag, .long 1)
