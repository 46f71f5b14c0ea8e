import type { DebugConfigurationProvider } from 'vscode';

/** The adapter checks and defaults the fields of launch.json itself, because it has other clients too. */
export const configurationProvider: DebugConfigurationProvider = {
  resolveDebugConfiguration(_folder, configuration) {
    // F5 without a launch.json: there is no kernel to guess, so VS Code offers to create the file (null).
    return configuration.request === undefined ? null : configuration;
  },
};
