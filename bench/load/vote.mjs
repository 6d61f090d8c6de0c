// A process that votes; the driver tells it how.
import { serve } from './ipc.mjs';
import { vote } from './voting.mjs';

serve({ vote });
