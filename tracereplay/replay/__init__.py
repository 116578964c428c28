"""Replay of one scenario: the state of the machine, the access loop, zswap, pool and device.

Every rule of the model, and the kernel function it follows. Version: where nothing stands, every
profile of settings.KERNELS goes by it. Where the model simplifies, the code says "Unlike the kernel".

Charging (charge.py)
    a page costs one from the stock, else a batch of 64, else one
        mm/memcontrol.c:try_charge_memcg(), consume_stock()
    at the limit: reclaim, drain stocks once, 16 more tries, then an OOM kill
        try_charge_memcg(), drain_all_stock(), mem_cgroup_oom(); the victim is the task itself, and
        reclaims 17 times more before it dies (`passed_oom`), for two seconds at most, and with fresh
        statistics, which the report of the kill asks for
        mem_cgroup_print_oom_meminfo(), mm/oom_kill.c:oom_reaper(), OOM_REAPER_DELAY
    page tables of an address are charged before its page        mm/memory.c:__pte_alloc(), __pmd_alloc()
    cgroup v2: compressed bytes, exactly, through a stock of bytes; over the limit if need be
        obj_cgroup_charge_zswap(), obj_cgroup_charge(), refill_obj_stock(); v1: nothing
    statistics are as old as the last flush: every 2 s, or when somebody reads them
        flush_memcg_stats_dwork(), mem_cgroup_flush_stats()
        6.1: also when reclaim starts, past 64 updates per CPU    mm/vmscan.c:prepare_scan_control()
        a flush may fall into a run of reclaim: its lower priorities see it, and what was activated
        until then counts as seen, without deactivating, where it falls into the last one
                                                                  shrink_lruvec(), snapshot_refaults()

Reclaim (reclaim/two_list.py, statistics.py)
    priorities 12 to 0 until 32 pages are freed; one more round before giving up (since 6.11)
        mm/vmscan.c:do_try_to_free_pages()
    how much of each list; swappiness against costs               get_scan_count(), mm/swap.c:lru_note_cost()
        7.3: costs are read from statistics, as old as those are  prepare_scan_control()
    batches of 32; stops after the round that freed 32            shrink_lruvec()
    inactive is low where it is shorter than active (statistics)  inactive_is_low()
    active pages move on only if something was activated since the last run, or inactive is low
        prepare_scan_control(), may_deactivate; forced where a run skipped that in vain
    a deactivated page loses its young bit, keeps PG_workingset   shrink_active_list()
    first young bit keeps a page, the second activates it         folio_check_references()
    a page under writeback: v2 activates it, v1 waits             shrink_folio_list(), writeback_throttling_sane()
    writes of a scan reach the device when the scan is over, or 32 wait
        shrink_lruvec(), block/blk-mq.c:blk_add_rq_to_plug(); a sleeper unplugs: schedule()
    of those, writes to neighbouring slots are one request
        block/blk-merge.c:blk_attempt_plug_merge()
    all that is written while neighbours are read waits for the end of that, the shrinker's writes as well
        mm/swap_state.c:swap_cluster_readahead(), swap_vma_readahead(), blk_start_plug()
    what no plug holds goes out at once; with one CPU, in 7.2 and 7.3, when kblockd's worker runs: once a
        slice of .7 ms is over, or the faulting thread sleeps
        block/blk-core.c:__submit_bio() (6.12 and 6.18 have a plug there), block/blk-mq.c:blk_mq_submit_bio(),
        blk_mq_run_hw_queue(); kernel/sched/fair.c, HRTICK
    a page whose write ends goes to the inactive tail, but not one that still waits in the batch of
        new pages, as most do whose write zswap began             mm/swap.c:folio_rotate_reclaimable()
    new pages join the lists in batches of 31 (6.1: 15)           folio_add_lru(), lru_add_drain()
    a refault closer than the active list is long is activated    mm/workingset.c:workingset_refault()
    swap full: an activated page gives its slot back              shrink_folio_list(), folio_free_swap()

Where a page goes (eviction.py: evict)
    clean and with a slot: dropped                                shrink_folio_list()
    all zero: a bit (since 6.12)                                  mm/page_io.c:swap_writeout(), is_folio_zero_filled()
    zswap; what it refuses goes to the device                     swap_writeout(), zswap_store()
    memory.zswap.writeback=0: it stays, active, in the swap cache swap_writeout() (6.8), AOP_WRITEPAGE_ACTIVATE
    an older copy never survives a refusal                        zswap_store(); 6.1: mm/frontswap.c:__frontswap_store()

zswap (zswap.py)
    order of the tests: zswap.max, pool limit, size               zswap_store(); 6.1: zswap_frontswap_store()
    zswap.max: flush, compare, write one entry back, else refuse  obj_cgroup_may_zswap(), shrink_memcg(); 6.1 only refuses
    full at the limit, until the accept threshold                 zswap_check_limits()
        6.1: above the limit, below the threshold, by a size that is brought up to date where entries
        are stored and freed                                      zswap_is_full(), zswap_can_accept(), zswap_update_total_size()
    one repeated word: no memory (6.1; zram always)               zswap_is_page_same_filled(), page_same_filled()
    does not shrink: refused, `reject_compress_fail` (6.12, every codec answers -EINVAL), no counter
        (6.1), stored raw (since 6.18)                            zswap_compress(), crypto/lzo.c, lz4.c, zstd.c
    too large for zbud: `reject_compress_poor`                    zbud_alloc(), -ENOSPC
    a load frees the entry and leaves the page dirty (since 6.9)  zswap_load(); 6.1 keeps it

zram, in place of zswap (engine.py, eviction.py, loop.py)
    a write is done when it returns: the page is freed in the same scan
        mm/page_io.c:swap_writepage_bdev_sync(), mm/vmscan.c:pageout()
    a read takes no place in the swap cache and brings no neighbours; its slot is freed, and with it
        what zram holds      mm/memory.c:do_swap_page(), SWP_SYNCHRONOUS_IO, zram_slot_free_notify()
    what would take a page of its own in zsmalloc is kept as it is (3,625 bytes; 6.1: 3,257)
        drivers/block/zram/zram_drv.c:zram_write_page(), mm/zsmalloc.c:zs_huge_class_size()
    nobody is charged for its memory, and no limit of zswap's holds

Allocators (allocators.py)
    zsmalloc: size classes, fullest zspage first, freed when empty
        mm/zsmalloc.c:zs_create_pool(), get_fullness_group(), fix_fullness_group(); 6.1: chain of 4,
        get_pages_per_zspage(), insert_zspage()
    zbud: best fit by free chunks, two a page                     mm/zbud.c:zbud_alloc(), zbud_free()
    z3fold: header of two chunks, three a page, headless above 3904 bytes, compaction
        mm/z3fold.c:z3fold_alloc(), get_free_buddy(), do_compact_page(), compact_single_buddy()
    6.1: each object has a header of 8 bytes in zbud and z3fold   zswap_frontswap_store()

Writeback from zswap (eviction.py: walk_one, write_back, run_worker, shrink_pool, shrink_slab)
    oldest entry first, one second chance                         zswap.c:shrink_memcg_cb() (6.12)
    a new page in the swap cache: charged, a refault, on the lists, gone when written
        zswap_writeback_entry(); one in the swap cache already is passed over (-EEXIST)
        known gap: for the worker (not PF_MEMALLOC) that charge reclaims at the limit, here it never
        does (mem_cgroup_swapin_charge_folio(), try_charge_memcg()); in the shrinker it is forced
    the shrinker: entries less disk reads, scaled by what is saved; batches of 128, debt deferred
        zswap_shrinker_count(), zswap_shrinker_scan(), mm/shrinker.c:do_shrink_slab(); nothing in v1;
        7.3: scaled by statistics as old as their last flush     mem_cgroup_flush_stats_ratelimited()
    6.1: a run frees one page of zbud or z3fold, of eight tried, oldest last allocation first
        mm/zpool.c:zpool_shrink(), zbud_reclaim_page(), z3fold_reclaim_page(); zsmalloc cannot

The worker runs beside the faulting thread
    queued by a store that finds the pool full (6.1: above the limit), once at a time; once more
        where that happens while it runs, beside it on another CPU
        zswap_store(), queue_work(shrink_wq), kernel/workqueue.c:process_one_work() clears pending
    begins 21 us later, on a CPU of its own. With one CPU (emulated runs) it begins at once and takes
        turns with the faulting thread, so all it does takes twice as long, but for the time that
        thread sleeps in a read of the device; 6.18: begins at the next tick, 7.2 and 7.3 where the
        faulting thread leaves the kernel, if that is sooner, and keeps the CPU
        shrink_folio_list(), cond_resched(); mm/filemap.c:folio_wait_bit_common();
        kernel/sched/fair.c, PREEMPT_LAZY, RUN_TO_PARITY, and HRTICK (7.2)
        that it begins at once is read off one run of 6.12 (pool_limit_hit 2,084; at once 2,052, after
        25 us 2,838), not off the scheduler's source
    per step an entry, 1 us for a batch, and what writing it back costs (decompress, submit, one page
        reclaimed for its own); so its pace is that of the cost table
        shrink_worker(), shrink_memcg(): nr_to_walk 1, 7.3 32
    ends at the accept threshold, or after 16 failures: batches of which nothing was written
        MAX_RECLAIM_RETRIES
    a trace without time has a touch every `touch_ns` (100 ns) and the stalls the model adds
    how far its timing moves a counter: `validate` replays such a run also with a worker that begins
        after 10 us and takes 3/4 of the time, and with one that begins after 42 us and takes 3/2;
        model_min and model_max are over all of them             engine.py:WORKER_TIMING

Faults and swap (loop.py, slots.py, swap.py)
    resident and in the swap cache: a minor fault                 mm/memory.c:do_swap_page()
    a write fault, and a read of neighbours, put the per-CPU batch on the lists first (not 7.3)
        do_swap_page(), swap_cluster_readahead(), swap_vma_readahead(): lru_add_drain()
    slot freed: at a write fault, with swap half full, always for a synchronous device
        should_try_to_free_swap(), include/linux/swap.h:vm_swap_full()
    slots that only the swap cache holds are taken back when the last one is given; the kernel begins
        where swap is half full and no cluster is left
        mm/swapfile.c:swap_reclaim_full_clusters(); 6.1 scan_swap_map_slots()
    6.1: a freed slot and its entry in zswap wait for 63 others   mm/swap_slots.c:free_swap_slot()
    6.1: a read fault maps read-only, the first write faults, slot and copy stay   do_wp_page(), wp_page_reuse()
    readahead by slot (rotational) or address                     mm/swap_state.c:swap_cluster_readahead(), swap_vma_readahead()
        by address it stays within a page table, but goes on at full width in the next
        swap_vma_ra_win()
    6.18: a dirty page that was read ahead and never mapped is activated instead of written: it is no
        anonymous page before an rmap is added; of zswap's loads, which leave no copy, all are dirty
        mm/vmscan.c:pageout() since 6.16, folio_test_anon()
    PG_readahead is PG_reclaim: a page met while it is written counts as a readahead hit, opens the
        window, and is not moved when its write ends; dirtying a page clears the bit
        include/linux/page-flags.h, swap_update_readahead(), mm/page-writeback.c:folio_mark_dirty()
    a read that reclaimed first waits for the writes the device has begun (`behind_ns`)
    slots, where readahead follows them: 6.18 takes the next of its cluster, then the first of a
        partly used one, then an empty one; 6.1 and 6.12 (a rotational device) run through 512, then go
        to the first 512 free in a row                            mm/swapfile.c:cluster_alloc_swap_entry(), scan_swap_map_slots()
        a cluster that was emptied is used again in its turn, not at once (7.2)    cluster_is_usable()

Emulated runs only: a translation cached by QEMU hides touches from reclaim, as a real TLB may
    arch/x86/mm/pgtable.c:ptep_clear_flush_young() does not flush; accel/tcg/cputlb.c
    where another process reads the statistics all are dropped, and their number follows those in use
                                                                   accel/tcg/cputlb.c:tlb_mmu_resize_locked()
Recorded runs only: their time has the stalls spread over all touches, so a fault's clock returns to it
"""
