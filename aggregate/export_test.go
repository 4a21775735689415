package aggregate

// QueueLen returns how many ops the queue of an aggregate holds, those that have
// left included.
func QueueLen[S any](r *Repository[S], id string) int {
	r.mu.Lock()
	in := r.instances[id]
	r.mu.Unlock()
	if in == nil {
		return 0
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.queue)
}
