; The function that XLA calls for a convolution. LLVM compiles it when it is loaded, so it needs no
; compiler, and it never takes Python's lock.
;
; XLA passes a call frame (xla/ffi/api/c_api.h), whose binary interface is stable. Frame, plan and
; table are arrays of 64-bit words here. A plan is what handler.py encodes:
;   steps, then for each step: primitive, count, then for each argument: role, layout, buffer, offset

@table = external global i64    ; pairs of a plan's key and its address; key 0: none
@engine = external global i8
@unknown = private constant [86 x i8] c"oneDNN has no plan for this convolution, because another process traced this program.\00"
@failure = private constant [36 x i8] c"oneDNN could not compute its result\00"

declare i32 @dnnl_stream_create(ptr, ptr, i32)
declare i32 @dnnl_stream_destroy(i64)
declare i32 @dnnl_memory_create(ptr, i64, ptr, i64)
declare i32 @dnnl_memory_destroy(i64)
declare i32 @dnnl_primitive_execute(i64, i64, i32, ptr)

define internal i64 @word(i64 %array, i64 %index) {
  %start = inttoptr i64 %array to ptr
  %place = getelementptr i64, ptr %start, i64 %index
  %value = load i64, ptr %place
  ret i64 %value
}

define internal void @put(i64 %array, i64 %index, i64 %value) {
  %start = inttoptr i64 %array to ptr
  %place = getelementptr i64, ptr %start, i64 %index
  store i64 %value, ptr %place
  ret void
}

; Returns the address of a buffer's data: operands are numbered first, then results.
define internal i64 @data(i64 %frame, i64 %number) {
  %operands = call i64 @word(i64 %frame, i64 7)
  %is_operand = icmp slt i64 %number, %operands
  %result_number = sub i64 %number, %operands
  %list = select i1 %is_operand, i64 9, i64 14
  %index = select i1 %is_operand, i64 %number, i64 %result_number
  %buffers = call i64 @word(i64 %frame, i64 %list)
  %buffer = call i64 @word(i64 %buffers, i64 %index)
  %address = call i64 @word(i64 %buffer, i64 3)
  ret i64 %address
}

; Returns an error for XLA, of the code "internal".
define internal i64 @error(i64 %frame, ptr %message) {
  %arguments = alloca [4 x i64]
  %list = ptrtoint ptr %arguments to i64
  %text = ptrtoint ptr %message to i64
  call void @put(i64 %list, i64 0, i64 32)
  call void @put(i64 %list, i64 1, i64 0)
  call void @put(i64 %list, i64 2, i64 %text)
  call void @put(i64 %list, i64 3, i64 13)
  %api = call i64 @word(i64 %frame, i64 2)
  %address = call i64 @word(i64 %api, i64 6)
  %create = inttoptr i64 %address to ptr
  %made = call i64 %create(ptr %arguments)
  ret i64 %made
}

; Returns the address of the plan that the call's attribute names, or 0.
define internal i64 @plan(i64 %frame) {
  %attributes = call i64 @word(i64 %frame, i64 20)
  %attribute = call i64 @word(i64 %attributes, i64 0)
  %place = call i64 @word(i64 %attribute, i64 1)
  %key = call i64 @word(i64 %place, i64 0)
  %table = ptrtoint ptr @table to i64
  %first = urem i64 %key, {slots}
  br label %look
look:
  %slot = phi i64 [ %first, %0 ], [ %after, %next ]
  %index = shl i64 %slot, 1
  %found = call i64 @word(i64 %table, i64 %index)
  switch i64 %found, label %compare [ i64 0, label %none ]
compare:
  %same = icmp eq i64 %found, %key
  br i1 %same, label %hit, label %next
next:
  %following = add i64 %slot, 1
  %after = urem i64 %following, {slots}
  br label %look
hit:
  %address_index = add i64 %index, 1
  %address = call i64 @word(i64 %table, i64 %address_index)
  ret i64 %address
none:
  ret i64 0
}

; Runs the step of a plan at this address, and returns oneDNN's status.
define internal i32 @step(i64 %frame, i64 %at, i64 %stream) {
  %arguments = alloca [16 x i64]  ; up to 8 pairs of role and memory
  %list = ptrtoint ptr %arguments to i64
  %primitive = call i64 @word(i64 %at, i64 0)
  %count = call i64 @word(i64 %at, i64 1)
  br label %make
make:
  %i = phi i64 [ 0, %0 ], [ %i_after, %make ]
  %offset_before = shl i64 %i, 2
  %base = add i64 %offset_before, 2
  %layout_at = add i64 %base, 1
  %buffer_at = add i64 %base, 2
  %offset_at = add i64 %base, 3
  %role = call i64 @word(i64 %at, i64 %base)
  %layout = call i64 @word(i64 %at, i64 %layout_at)
  %buffer = call i64 @word(i64 %at, i64 %buffer_at)
  %offset = call i64 @word(i64 %at, i64 %offset_at)
  %start = call i64 @data(i64 %frame, i64 %buffer)
  %address = add i64 %start, %offset
  %pair = shl i64 %i, 1
  call void @put(i64 %list, i64 %pair, i64 %role)
  %second = add i64 %pair, 1
  %memory = getelementptr [16 x i64], ptr %arguments, i64 0, i64 %second
  call i32 @dnnl_memory_create(ptr %memory, i64 %layout, ptr @engine, i64 %address)
  %i_after = add i64 %i, 1
  %made = icmp eq i64 %i_after, %count
  br i1 %made, label %run, label %make
run:
  %number = trunc i64 %count to i32
  %status = call i32 @dnnl_primitive_execute(i64 %primitive, i64 %stream, i32 %number, ptr %arguments)
  br label %free
free:
  %j = phi i64 [ 0, %run ], [ %j_after, %free ]
  %j_pair = shl i64 %j, 1
  %j_second = add i64 %j_pair, 1
  %used = call i64 @word(i64 %list, i64 %j_second)
  call i32 @dnnl_memory_destroy(i64 %used)
  %j_after = add i64 %j, 1
  %freed = icmp eq i64 %j_after, %count
  br i1 %freed, label %done, label %free
done:
  ret i32 %status
}

define i64 @convolution(i64 %frame) {
  %extension = call i64 @word(i64 %frame, i64 1)
  %plain = icmp eq i64 %extension, 0
  br i1 %plain, label %execute, label %describe

describe:  ; Before the first call XLA asks for the version of its interface: 0.3.
  %metadata = call i64 @word(i64 %extension, i64 3)
  call void @put(i64 %metadata, i64 3, i64 12884901888)
  call void @put(i64 %metadata, i64 4, i64 0)
  ret i64 0

execute:
  %plan = call i64 @plan(i64 %frame)
  %missing = icmp eq i64 %plan, 0
  br i1 %missing, label %unknown_plan, label %begin
begin:
  %place = alloca i64
  call i32 @dnnl_stream_create(ptr %place, ptr @engine, i32 1)
  %stream = load i64, ptr %place
  %steps = call i64 @word(i64 %plan, i64 0)
  %first = add i64 %plan, 8
  br label %run
run:
  %i = phi i64 [ 0, %begin ], [ %i_after, %run ]
  %at = phi i64 [ %first, %begin ], [ %at_after, %run ]
  %before = phi i32 [ 0, %begin ], [ %status, %run ]
  %now = call i32 @step(i64 %frame, i64 %at, i64 %stream)
  %status = or i32 %before, %now
  %count = call i64 @word(i64 %at, i64 1)
  %bytes = mul i64 %count, 32
  %end = add i64 %bytes, 16
  %at_after = add i64 %at, %end
  %i_after = add i64 %i, 1
  %finished = icmp eq i64 %i_after, %steps
  br i1 %finished, label %end_stream, label %run
end_stream:
  call i32 @dnnl_stream_destroy(i64 %stream)
  %good = icmp eq i32 %status, 0
  br i1 %good, label %success, label %failed
success:
  ret i64 0
failed:
  %error = call i64 @error(i64 %frame, ptr @failure)
  ret i64 %error
unknown_plan:
  %unknown_error = call i64 @error(i64 %frame, ptr @unknown)
  ret i64 %unknown_error
}
