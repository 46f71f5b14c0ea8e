import type { DebugConfiguration, DebugConfigurationProvider } from 'vscode';

/** Prepares launch.json for the adapter, which checks and defaults the fields itself: it has other clients too. */
export const configurationProvider: DebugConfigurationProvider = {
  resolveDebugConfiguration(_folder, configuration) {
    // F5 without a launch.json: there is no kernel to guess, so VS Code offers to create the file (null).
    return configuration.type === undefined ? null : configuration;
  },

  resolveDebugConfigurationWithSubstitutedVariables(_folder, configuration) {
    return withNumericPid(configuration);
  },
};

/** A variable such as `${command:kvm.pickVmm}` is replaced by text; the adapter's `pid` is a number. */
export function withNumericPid(configuration: DebugConfiguration): DebugConfiguration {
  const pid: unknown = configuration.pid;
  return typeof pid === 'string' && /^\d+$/.test(pid) ? { ...configuration, pid: Number(pid) } : configuration;
}
