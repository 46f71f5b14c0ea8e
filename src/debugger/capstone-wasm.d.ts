// The package's own declarations are not reachable through its `exports`; this is the part that is used.
declare module 'capstone-wasm' {
  export interface Insn {
    readonly address: number | bigint;
    readonly size: number;
    readonly bytes: Uint8Array;
    readonly mnemonic: string;
    readonly opStr: string;
  }
  export class Capstone {
    constructor(arch: number, mode: number);
    disasm(data: Uint8Array, options?: { address?: number | bigint; count?: number }): Insn[];
    getInsnName(id: number): string;
    close(): void;
  }
  export const Const: {
    readonly CS_ARCH_ARM64: number;
    readonly CS_ARCH_X86: number;
    readonly CS_MODE_ARM: number;
    readonly CS_MODE_64: number;
  };
  export function loadCapstone(): Promise<void>;
}
