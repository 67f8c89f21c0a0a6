// The entry as kubectl's plugin, which bin/bulkhead takes under the name kubectl-bulkhead.
import { actAsKubectlPlugin } from './program.ts';

actAsKubectlPlugin();
await import('./main.ts');
