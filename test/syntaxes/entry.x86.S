/* SPDX-License-Identifier: MIT */
/* A syscall entry and a copy routine in AT&T syntax, as the kernel writes them. */
#include <linux/linkage.h>
#include <asm/asm.h>

#ifdef CONFIG_X86_64
#define ARG1		%rdi
#define pair(op, x, y)	\
	op	x, y; \
	op ## l	$1, y
#else
# error "64 bits only"	// for this sample
#endif

# A comment that is none of the preprocessor's.
.macro	PUSH_SAMPLE_REGS rdx=%rdx low=dx save_ret=0	# and one at the end
	.if	\save_ret
	pushq	%rsi
	movq	8(%rsp), %rsi
	.else
	pushq	\rdx
	.endif
	xorl	%e\low, %e\low
.Lskip_\@:
.endm

	.code64
	.section .entry.text, "ax"
SYM_CODE_START(entry_sample)
	UNWIND_HINT_ENTRY
	ENDBR
	swapgs
	movq	%rsp, PER_CPU_VAR(sample_scratch)
	SWITCH_TO_KERNEL_CR3 scratch_reg=%rsp
	movq	PER_CPU_VAR(cpu_current_top_of_stack), %rsp
SYM_INNER_LABEL(entry_sample_safe_stack, SYM_L_GLOBAL)
	pushq	$__USER_DS
	PUSH_SAMPLE_REGS rdx=%rcx low=cx save_ret=1
	movslq	%eax, %rsi
	cmpq	$NR_syscalls, %rax
	jae	.Lbad
	call	*sample_table(, %rax, 8)
	testl	$(SAMPLE_WORK | 0x8000), TASK_flags(%r12)
	jnz	sample_exit_work@PLT
	ALTERNATIVE "jmp 1f", "", X86_FEATURE_SAMPLE
	movq	%cr3, %rax; andq $~0x1000, %rax
	lock cmpxchgq %rcx, (%rdx)
	setnz	%al
	cmovneq	%rbx, %r10
1:	movq	%gs:0x28, %rax
	leaq	-0x10(%rip), %rdx
	movq	sample_flag@GOTPCREL(%rip), %rdi
	sysretq
.Lbad:
	ud2
	int3
SYM_CODE_END(entry_sample)

SYM_FUNC_START(copy_sample)
	movl	%edx, %ecx
	shrl	$3, %ecx
	rep; movsq
	rep movsb
2:	movb	(%rsi), %al
3:	movb	%al, -1(%rdi,%rcx,1)
	decl	%ecx
	jnz	2b
	xorl	%eax, %eax
	RET
	_ASM_EXTABLE_UA(2b, 4f)
	_ASM_EXTABLE_UA(3b,
			4f)
4:	jmp	*%rax
SYM_FUNC_END(copy_sample)
EXPORT_SYMBOL_GPL(copy_sample)

SYM_FUNC_START(mix_sample)
	vmovdqu	(%rdi), %ymm0
	vpaddd	%ymm0, %ymm1, %ymm2{%k1}{z}
	vpaddq	(%rsi){1to8}, %zmm3, %zmm4
	pshufb	%xmm4, %xmm5
	cvtsi2sdq	%rax, %xmm0
	fldcw	-2(%rbp)
	kmovq	%rax, %k2
	vzeroupper
	rdmsr
	wrmsr
	cli
	RET
SYM_FUNC_END(mix_sample)

SYM_DATA_START(sample_gdt)
	.word	sample_gdt_end - sample_gdt - 1
	.quad	0x00af9b000000ffff	/* code */
SYM_DATA_END_LABEL(sample_gdt, SYM_L_LOCAL, sample_gdt_end)
	.globl	sample_name
	.type	sample_name, @object
sample_name:
	.asciz	"sample\n"
	.set	sample_len, . - sample_name
	.size	sample_name, sample_len
